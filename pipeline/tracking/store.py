"""MLflow's store and registry: their address, opening them without damage, and reading a local one without MLflow.

MLflow takes 3 to 4 seconds to load, so only `open_store` loads it. What is only shown to people is read from the local
SQLite file directly; every change goes through MLflow, except `relocate`.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pipeline.core.errors import UserError, one_line, without_secrets
from pipeline.evaluation.measurement import MEASUREMENT_ID
from pipeline.tracking.project import project_root, state_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

# No telemetry, a short wait for an unreachable server, no progress bars for small files.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
TIMEOUT_SECONDS = 5.0
EXPERIMENT = "charlm"
# MLflow shows an experiment of this kind as "Machine learning": training runs, without traces and judges.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
# The alias of the best version, and the tags of a version that are read here too.
CHAMPION: Final = "champion"
REASON_TAG, GATE_TAG, WEIGHTS_TAG, PERPLEXITY_TAG = "champion.reason", "gate", "weights_sha256", "perplexity"
SQLITE = "sqlite:///"
# The columns of MLflow's database with absolute addresses of artifacts.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def set_up_mlflow() -> None:
    """Set MLflow's environment variables that are not set yet; called before MLflow is loaded."""
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, by default the SQLite file mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{project_root()}/mlflow.db"


def is_server(uri: str) -> bool:
    """Return whether the address is that of an MLflow server."""
    return uri.startswith(("http://", "https://"))


def store_hash(uri: str) -> str:
    """Return a hash that identifies a store; its address may contain a password."""
    return sha256(uri.encode()).hexdigest()[:16]


def check_server() -> None:
    """Do nothing if the store is local or its server answers; else raise a UserError."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not is_server(uri):
        return
    import httpx  # not for the default, a local store

    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = str(error).partition("\n")[0].replace(uri, "")
        raise UserError(
            f"MLFLOW_TRACKING_URI: {without_secrets(uri)} does not answer ({one_line(message)}); "
            "start the server, or unset it to log to ./mlflow.db"
        ) from None


@contextmanager
def open_store() -> Iterator[tuple["MlflowClient", str]]:
    """Give a client and the id of the experiment `charlm`, which is created if it is missing.

    A file lock protects a local store: two processes that create a new mlflow.db at once damage it. UserError at once
    if a server does not answer; MLflow itself would wait for minutes.
    """
    import mlflow  # 3 to 4 s
    from filelock import FileLock

    # Messages about migrations and hints to developers do not help users.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    check_server()
    uri = tracking_uri()
    state_folder().mkdir(parents=True, exist_ok=True)
    with nullcontext() if is_server(uri) else FileLock(state_folder() / "mlflow.lock"):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client = mlflow.MlflowClient()
        # A server decides where artifacts go; a local database uses mlruns/ in the project.
        yield client, _experiment(client, None if is_server(uri) else (project_root() / "mlruns").as_uri())


def _experiment(client: "MlflowClient", artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT, artifacts, tags={KIND_TAG: KIND}))
        except MlflowException:  # on a server, someone else may have created it meanwhile
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    # An experiment of an earlier release has no kind, or one that MLflow's pages inferred.
    kind = found.tags.get(KIND_TAG, "")
    if not kind or (kind.endswith("_inferred") and kind != f"{KIND}_inferred"):
        client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
    return str(found.experiment_id)


@dataclass(frozen=True)
class Registered:
    """A version of a registered model: its alias ("" if it has none), and why it has that alias ("" if unknown)."""

    model: str
    version: int
    alias: str
    reason: str


# What identifies a registered model among the results here: its weights, perplexity and measurement. Models with the
# same weights may have other n-gram models, and may have been measured otherwise.
Key = tuple[str, str, str]


def model_key(weights: str | None, perplexity: object, measurement: str | None) -> Key | None:
    """Return the key of a model, None without the SHA-256 of its weights; `perplexity` is a float or its repr."""
    shown = perplexity if isinstance(perplexity, str) else repr(perplexity)
    return (weights, shown, measurement or "") if weights else None


def _key_of(tags: Mapping[str, str]) -> Key | None:
    return model_key(tags.get(WEIGHTS_TAG), tags.get(PERPLEXITY_TAG, ""), tags.get(MEASUREMENT_ID))


def registry_is_remote() -> bool:
    """Return whether only MLflow can read the registry, as on a server."""
    return _registry_file() is None


def registered_versions() -> dict[Key, Registered]:
    """Return the registered versions by `model_key`, without loading MLflow for a local registry.

    Errors of MLflow are passed on.
    """
    if not registry_is_remote():
        return local_versions()
    from pipeline.tracking.registry import versions

    found = []
    with open_store() as (client, _):
        for model in client.search_registered_models():
            for one in versions(client, model.name):
                # "champion" before any other alias.
                alias = min(one.aliases, key=lambda name: (name != CHAMPION, name), default="")
                version = Registered(model.name, int(one.version), alias, reason_of(alias, one.tags))
                found.append((version, _key_of(one.tags)))
    return by_key(found)


def local_versions(model: str | None = None) -> dict[Key, Registered]:
    """Return the versions (of one `model`) in the local registry by `model_key`.

    Empty if there is no local registry, or if its file cannot be read, as that of another MLflow version.
    """
    path = _registry_file()
    if path is None or not path.exists():
        return {}
    aliases: dict[tuple[str, int], str] = {}
    tags: dict[tuple[str, int], dict[str, str]] = {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            for name, version, alias in database.execute("SELECT name, version, alias FROM registered_model_aliases"):
                aliases[name, int(version)] = alias
            for name, version, key, value in database.execute(
                "SELECT name, version, key, value FROM model_version_tags WHERE key IN (?, ?, ?, ?, ?)",
                (WEIGHTS_TAG, GATE_TAG, REASON_TAG, PERPLEXITY_TAG, MEASUREMENT_ID),
            ):
                tags.setdefault((name, int(version)), {})[key] = value
    except sqlite3.Error:
        return {}
    found = []
    for (name, version), one in tags.items():
        if model is None or name == model:
            alias = aliases.get((name, version), "")
            found.append((Registered(name, version, alias, reason_of(alias, one)), _key_of(one)))
    return by_key(found)


def by_key(found: Iterable[tuple[Registered, Key | None]]) -> dict[Key, Registered]:
    """Return versions by their keys; of several with the same key, the champion or the newest."""
    ordered = sorted(found, key=lambda pair: (pair[0].alias == CHAMPION, pair[0].version))
    return {key: one for one, key in ordered if key}


def reason_of(alias: str, tags: Mapping[str, str]) -> str:
    """Return why a version has its alias: a champion's own reason, else the gate's ("challenger: …")."""
    if alias == CHAMPION and REASON_TAG in tags:
        return tags[REASON_TAG]
    given, _, reason = tags.get(GATE_TAG, "").partition(": ")
    return reason if given == alias else ""


def _registry_file() -> Path | None:
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return project_root() / "mlflow.db"
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def relocate(root: Path) -> tuple[str, int]:
    """Correct mlflow.db in `root` after its folder was moved: MLflow stores artifact addresses as absolute paths.

    Returns the old folder and the number of changed addresses. UserError if there is no database or no experiment.
    """
    path = root / "mlflow.db"
    if not path.exists():
        raise UserError(f"mlflow.db: no such file in {root.name}; nothing was logged here yet")
    with sqlite3.connect(path) as database:  # one transaction
        found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
        if found is None:
            raise UserError(f"mlflow.db: no experiment {EXPERIMENT!r}")
        old, new = found[0].removesuffix("/mlruns"), root.resolve().as_uri()
        if old == new:
            return old, 0
        changed = 0
        for table, column in ADDRESSES:
            statement = (
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '/mlruns/%' "  # noqa: S608
                f"OR {column} = ? || '/mlruns'"
            )
            changed += database.execute(statement, (new, len(old) + 1, old, old)).rowcount
    return old, changed


REGISTRY = "models:/"


def from_registry(address: str, *, option: str = "--model") -> tuple[Path, str]:
    """Return the folder of the model at `models:/…`, and its version number; UserError if there is none.

    `option` is the option or params key that the address comes from; errors begin with it.
    """
    from mlflow.artifacts import download_artifacts  # 3 seconds: not for a folder
    from mlflow.exceptions import MlflowException

    name, _, alias = address.removeprefix(REGISTRY).partition("@")
    name, _, number = name.partition("/")
    if not name or not (alias or number):
        raise UserError(f"{option}: found {address}, allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        with open_store() as (client, _):
            found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
            version = str(found.version)
            folder = Path(download_artifacts(f"{REGISTRY}{name}/{version}"))
    except MlflowException as error:
        raise UserError(f"{option}: {address}: {one_line(error.message)}") from None
    except OSError as error:  # the model's files: a store that is unreachable, a folder that was removed
        raise UserError(f"{option}: {address}: {one_line(error)}") from None
    for place in ("artifacts/charlm", "artifacts/model"):
        if (folder / place).is_dir():
            return folder / place, version
    raise UserError(f"{option}: {address}: not a model that charlm registered")

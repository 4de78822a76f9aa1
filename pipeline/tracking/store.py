"""MLflow's store and registry: their address, opening them without damage, and reading a local one without MLflow.

MLflow takes 3 to 4 seconds to load, so only `open_store` loads it. What is only shown to people is read from the local
SQLite file directly; every change goes through MLflow.
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
from pipeline.params.reader import LOCK_FILE
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
# An SQLite file begins with these bytes; larger ones are not read to their end at each start.
MAGIC, HEADER_BYTES, CHECKED_BYTES = b"SQLite format 3\0", 100, 1 << 28


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


def check_store() -> None:
    """Do nothing if the store's server answers, or its file is a database or new; else raise a UserError."""
    check_server()
    with lock_store():
        _check_databases()


@contextmanager
def lock_store() -> Iterator[None]:
    """Protect a local store: two processes that create a new mlflow.db at once damage it."""
    from filelock import FileLock

    state_folder().mkdir(parents=True, exist_ok=True)
    with nullcontext() if is_server(tracking_uri()) else FileLock(state_folder() / "mlflow.lock"):
        yield


def _check_databases() -> None:
    for path in {_file_of(tracking_uri()), _registry_file()}:
        if path is not None:
            check_database(path)


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


def check_database(path: Path) -> None:
    """Refuse an SQLite file that is damaged: MLflow would begin a new registry, in which any version is champion.

    An empty file is allowed only if nothing was registered here: a process was killed before it wrote anything.
    """
    if not path.exists():
        return
    remedy = "restore it from a backup, or delete it to begin a new registry without the earlier runs and versions"
    size = path.stat().st_size
    if size == 0:
        if not (known := _known_from()):
            return
        raise UserError(f"{path.name}: 0 bytes, although {known} knows of earlier runs; {remedy}")
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not head.startswith(MAGIC):
        raise UserError(f"{path.name}: not an SQLite database; {remedy}")
    if size > CHECKED_BYTES:
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return  # another process is writing to it
    except sqlite3.DatabaseError as error:
        answer, tables = str(error), 1
    if answer != "ok" or (tables == 0 and _known_from()):
        raise UserError(f"{path.name}: damaged ({one_line(answer) if tables else 'no tables'}); {remedy}")


def _known_from() -> str:
    """Return what knows that the store once had runs or versions, "" if nothing does."""
    lock = project_root() / LOCK_FILE
    if lock.exists() and "models/registration.json" in lock.read_text(encoding="utf-8", errors="replace"):
        return LOCK_FILE.name
    return "mlruns" if any((project_root() / "mlruns").glob("*/*")) else ""


@contextmanager
def open_store() -> Iterator[tuple["MlflowClient", str]]:
    """Give a client and the id of the experiment `charlm`, which is created if it is missing.

    UserError at once if a server does not answer (MLflow itself would wait for minutes), or if a local store's
    file is damaged.
    """
    import mlflow  # 3 to 4 s

    # Messages about migrations and hints to developers do not help users.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It logs errors of the database with their tracebacks, and then raises them.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    check_server()
    uri = tracking_uri()
    with lock_store():
        _check_databases()
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

    UserError if a local registry is damaged. Errors of MLflow are passed on.
    """
    if path := _registry_file():
        check_database(path)
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
    return _file_of(uri)


def _file_of(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


REGISTRY = "models:/"

"""The model registry and its gate: decides which version is the champion, and can roll back to the one before.

Perplexities are compared only if they were measured alike (`pipeline/evaluation/measurement.py`). The champion
changes in one call, which moves the alias; the tags that a rollback needs are written before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.core.errors import UserError, one_line
from pipeline.evaluation.measurement import Record, difference, record_in
from pipeline.tracking.project import state_folder
from pipeline.tracking.store import CHAMPION, GATE_TAG, PERPLEXITY_TAG, REASON_TAG, REGISTRY, open_store

CHALLENGER: Final = "challenger"
BASELINE_TAG = "baseline_perplexity"
EVAL_TAG = "eval_sha256"
# The model that training started from, if it did: its address, and the hash of its weights.
START_TAGS = START_TAG, START_SHA256_TAG = ("start_from", "start_sha256")
# The most names of other models that an error lists.
SHOWN_NAMES = 10
# MLflow's error codes for a missing alias, version or model.
NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# Tags of a version: the champion before it, and when it became champion itself.
BEFORE_TAG, SINCE_TAG = "champion.before", "champion.since"


@dataclass(frozen=True)
class Standing:
    """A version's perplexity, the record of its measurement, and the baseline's perplexity (None: unknown)."""

    version: str
    perplexity: float
    measurement: Record | None
    baseline: float | None = None


@dataclass(frozen=True)
class Gate:
    """What a champion must fulfil besides being better than the one before: group `register` of params.yaml."""

    max_perplexity: float = float("inf")
    beat_baseline: bool = False


@dataclass(frozen=True)
class Decision:
    """The alias that a new version gets, why, and whether it could be compared with the champion."""

    alias: Literal["champion", "challenger"]
    reason: str
    comparable: bool = True


def decide(candidate: Standing, champion: Standing | None, gate: Gate) -> Decision:
    """Return the alias that `candidate` gets."""
    if candidate.perplexity > gate.max_perplexity:
        return Decision(
            CHALLENGER,
            f"perplexity {candidate.perplexity:.4f} is over register.max_perplexity {gate.max_perplexity:g}",
        )
    if gate.beat_baseline and candidate.baseline is not None and candidate.perplexity >= candidate.baseline:
        return Decision(
            CHALLENGER,
            f"perplexity {candidate.perplexity:.4f} is not below the n-gram baseline's {candidate.baseline:.4f} "
            "(register.beat_baseline)",
        )
    if champion is None:
        return Decision(CHAMPION, "there is no champion yet")
    if differs := difference(champion.measurement, candidate.measurement):
        reason = f"not comparable with champion version {champion.version}: {differs}"
        return Decision(CHALLENGER, reason, comparable=False)
    compared = f"perplexity {candidate.perplexity:.4f} against {champion.perplexity:.4f} of version {champion.version}"
    if candidate.perplexity < champion.perplexity:
        return Decision(CHAMPION, compared)
    return Decision(CHALLENGER, f"not better: {compared}")


def pass_gate(client: MlflowClient, name: str, candidate: Standing, gate: Gate) -> Decision:
    """Decide about a new version, and give it its alias."""
    with _one_at_a_time():
        champion = find_champion(client, name)
        decision = decide(candidate, champion, gate)
        client.set_model_version_tag(name, candidate.version, GATE_TAG, f"{decision.alias}: {decision.reason}")
        if decision.alias == CHAMPION:
            before = champion.version if champion else ""
            _make_champion(client, name, candidate.version, reason=decision.reason, before=before)
        else:
            client.set_registered_model_alias(name, CHALLENGER, candidate.version)
    return decision


def promote(
    client: MlflowClient,
    name: str,
    version: str,
    *,
    reason: str,
    force: bool,
    gate: Gate = Gate(),
) -> str:
    """Make `version` the champion; returns a line that says what happened.

    UserError if there is no such version, if it is the champion, or (unless `force`) if it does not pass the gate: its
    perplexity is over the limit, not below the baseline's, or not better than the champion's, measured alike.
    """
    with _one_at_a_time():
        candidate, champion = standing_of(find_version(client, name, version)), find_champion(client, name)
        if champion and champion.version == version:
            raise UserError(f"{name} version {version} is the champion already")
        decision = decide(candidate, champion, gate)
        if decision.alias != CHAMPION and not force:
            raise UserError(f"{name} version {version} was not promoted: {decision.reason}; --force promotes it anyway")
        message = reason or (decision.reason if decision.alias == CHAMPION else f"forced, although {decision.reason}")
        _make_champion(client, name, version, reason=message, before=champion.version if champion else "")
    after = f" after version {champion.version}" if champion else ""
    return f"{name} version {version} is champion{after}: {message}"


def rollback(client: MlflowClient, name: str, *, reason: str) -> str:
    """Make the previous champion the champion again; returns a line that says what happened.

    Each further call goes one version further back. UserError if there is no previous champion, or if it was deleted.
    """
    with _one_at_a_time():
        champion = find_champion(client, name)
        if champion is None:
            raise UserError(f"{name}: there is no champion")
        before = find_version(client, name, champion.version).tags.get(BEFORE_TAG)
        if not before:
            raise UserError(f"{name} version {champion.version}: no version was champion before it")
        find_version(client, name, before)
        message = reason or f"rollback from version {champion.version}"
        client.set_model_version_tag(name, champion.version, "champion.until", f"{_now()}: {message}")
        _make_champion(client, name, before, reason=message, before=None)
        # The next rollback must not return to this version, or two versions would alternate forever.
        client.set_model_version_tag(name, champion.version, BEFORE_TAG, "")
    return f"{name} version {before} is champion again, after version {champion.version}: {message}"


def find_champion(client: MlflowClient, name: str) -> Standing | None:
    """Return the standing of the version with the alias `champion`, None if there is none."""
    version = champion_version(client, name)
    return None if version is None else standing_of(version)


def champion_version(client: MlflowClient, name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, None if there is none."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise  # a broken registry is not the same as one without a champion


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Return a version, by its number or an alias; UserError, which names those that exist, if there is none."""
    try:
        if version.isdigit():
            return client.get_model_version(name, version)
        return client.get_model_version_by_alias(name, version.removeprefix("@"))
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
    if found := versions(client, name):
        allowed = ", ".join(" @".join([str(one.version), *sorted(one.aliases)]) for one in found)
        raise UserError(f"{name}: no version {version}; there are {allowed}")
    others = ", ".join(one.name for one in client.search_registered_models(max_results=SHOWN_NAMES))
    raise UserError(f"{name}: no model has this name; there are {others or 'none: nothing is registered yet'}")


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of the registered model, the newest first, with their aliases."""
    if "'" in name:  # no model has such a name, and the filter below cannot express it
        return []
    found, token = [], None
    while token is None or token:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or ""
    # The search does not return aliases; the registered model has them.
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException:
        return []
    for version in found:
        version.aliases = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
    return sorted(found, key=lambda version: -int(version.version))


def standing_of(version: ModelVersion) -> Standing:
    """Return the standing of a version, from its tags."""
    return Standing(
        version=str(version.version),
        perplexity=float(version.tags.get(PERPLEXITY_TAG, "inf")),
        measurement=record_in(version.tags),
        baseline=float(version.tags[BASELINE_TAG]) if BASELINE_TAG in version.tags else None,
    )


def from_registry(address: str, *, option: str = "--model") -> tuple[Path, str]:
    """Return the folder of the model at `models:/…`, and its version number; UserError if there is none.

    `option` is the option or params key that the address comes from; errors begin with it.
    """
    name, _, alias = address.removeprefix(REGISTRY).partition("@")
    name, _, number = name.partition("/")
    if not name or not (alias or number):
        raise UserError(f"{option}: found {address}, allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        with open_store() as (client, _):
            version = str(find_version(client, name, number or f"@{alias}").version)
            folder = Path(download_artifacts(f"{REGISTRY}{name}/{version}"))
    except UserError as error:
        raise UserError(f"{option}: {address}: {error}") from None
    except MlflowException as error:
        raise UserError(f"{option}: {address}: {one_line(error.message)}") from None
    except OSError as error:  # the model's files: a store that is unreachable, a folder that was removed
        raise UserError(f"{option}: {address}: {one_line(error)}") from None
    for place in ("artifacts/charlm", "artifacts/model"):
        if (folder / place).is_dir():
            return folder / place, version
    raise UserError(f"{option}: {address}: not a model that charlm registered")


def _make_champion(client: MlflowClient, name: str, version: str, *, reason: str, before: str | None) -> None:
    """Move the alias. `before` is the previous champion for a later rollback; None leaves that tag unchanged."""
    tags = {REASON_TAG: reason, SINCE_TAG: _now()} | ({} if before is None else {BEFORE_TAG: before})
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.set_registered_model_alias(name, CHAMPION, version)
    aliases = client.get_registered_model(name).aliases
    if str(aliases.get(CHALLENGER, "")) == version:
        client.delete_registered_model_alias(name, CHALLENGER)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Allow one promotion at a time in this project; on a shared server the later one wins."""
    state_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(state_folder() / "registry.lock"):
        yield


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")

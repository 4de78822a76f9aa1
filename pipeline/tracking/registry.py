"""The registry and its gate: which version is `champion`, and the way back.

Figures are compared only on the same eval text (its SHA-256); a version measured on another text is no better and no
worse. A change of champion is one call that moves the alias; what is needed to go back is written before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.core.errors import UserError
from pipeline.tracking.project import state_folder

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
BASELINE_TAG = "baseline_perplexity"
PERPLEXITY_TAG, EVAL_TAG, WEIGHTS_TAG = "perplexity", "eval_sha256", "weights_sha256"
# The model that training started from, if it did: its address, and the hash of its weights.
START_TAGS = START_TAG, START_SHA256_TAG = ("start_from", "start_sha256")
# How MLflow says that there is no such alias, version or model.
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# On a version: the champion before it, why it became champion, and since when.
BEFORE_TAG, REASON_TAG, SINCE_TAG = "champion.before", "champion.reason", "champion.since"


@dataclass(frozen=True)
class Standing:
    """A version's perplexity, on which eval text."""

    version: str
    perplexity: float
    eval_sha256: str


@dataclass(frozen=True)
class Decision:
    """The alias that a new version gets, and why."""

    alias: Literal["champion", "challenger"]
    reason: str


def decide(candidate: Standing, champion: Standing | None, *, max_perplexity: float) -> Decision:
    """Return the alias of `candidate`. Pure: the gate itself."""
    if candidate.perplexity > max_perplexity:
        return Decision(
            CHALLENGER,
            f"perplexity {candidate.perplexity:.4f} is over register.max_perplexity {max_perplexity:g}",
        )
    if champion is None:
        return Decision(CHAMPION, "there is no champion yet")
    if candidate.eval_sha256 != champion.eval_sha256:
        return Decision(
            CHALLENGER,
            f"champion version {champion.version} was measured on another eval text: not comparable",
        )
    compared = f"perplexity {candidate.perplexity:.4f} against {champion.perplexity:.4f} of version {champion.version}"
    if candidate.perplexity < champion.perplexity:
        return Decision(CHAMPION, compared)
    return Decision(CHALLENGER, f"not better: {compared}")


def pass_gate(client: MlflowClient, name: str, candidate: Standing, *, max_perplexity: float) -> Decision:
    """Let a new version through the gate; it gets its alias."""
    with _one_at_a_time():
        champion = find_champion(client, name)
        decision = decide(candidate, champion, max_perplexity=max_perplexity)
        client.set_model_version_tag(name, candidate.version, "gate", f"{decision.alias}: {decision.reason}")
        if decision.alias == CHAMPION:
            before = champion.version if champion else ""
            _make_champion(client, name, candidate.version, reason=decision.reason, before=before)
        else:
            client.set_registered_model_alias(name, CHALLENGER, candidate.version)
    return decision


def promote(
    client: MlflowClient, name: str, version: str, *, reason: str, force: bool, max_perplexity: float = float("inf")
) -> str:
    """Make `version` the champion; returns what happened, in a line.

    UserError if there is no such version, if it is the champion, or (unless `force`) if it does not pass the gate: its
    perplexity is over `max_perplexity`, or not better than the champion's on the same eval text.
    """
    with _one_at_a_time():
        candidate, champion = standing_of(find_version(client, name, version)), find_champion(client, name)
        if champion and champion.version == version:
            raise UserError(f"{name} version {version} is the champion already")
        decision = decide(candidate, champion, max_perplexity=max_perplexity)
        if decision.alias != CHAMPION and not force:
            raise UserError(f"{name} version {version} was not promoted: {decision.reason}; --force promotes it anyway")
        message = reason or (decision.reason if decision.alias == CHAMPION else f"forced, although {decision.reason}")
        _make_champion(client, name, version, reason=message, before=champion.version if champion else "")
    after = f" after version {champion.version}" if champion else ""
    return f"{name} version {version} is champion{after}: {message}"


def rollback(client: MlflowClient, name: str, *, reason: str) -> str:
    """Make the version that was champion before the present one champion again; returns what happened, in a line.

    Once more goes one further back. UserError if there is none to go back to, or if it was deleted.
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
        # Going back does not lead here again, or two champions would follow each other for ever.
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
        if error.error_code in NOT_THERE:
            return None
        raise  # a registry in trouble is not one without a champion


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Return a version, by its number or an alias; UserError if there is none."""
    try:
        if version.isdigit():
            return client.get_model_version(name, version)
        return client.get_model_version_by_alias(name, version.removeprefix("@"))
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise
        allowed = ", ".join(str(one.version) for one in versions(client, name)) or "none: nothing is registered yet"
        raise UserError(f"{name}: no version {version}; there are {allowed}") from None


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of the registered model, the newest first, with their aliases."""
    if "'" in name:  # no model is called so, and the search below could not be written
        return []
    found, token = [], None
    while token is None or token:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or ""
    # A search leaves the aliases out; they stand with the model.
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException:
        return []
    for version in found:
        version.aliases = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
    return sorted(found, key=lambda version: -int(version.version))


def standing_of(version: ModelVersion) -> Standing:
    """Return what the version's tags say of it."""
    return Standing(
        version=str(version.version),
        perplexity=float(version.tags.get(PERPLEXITY_TAG, "inf")),
        eval_sha256=version.tags.get(EVAL_TAG, ""),
    )


def _make_champion(client: MlflowClient, name: str, version: str, *, reason: str, before: str | None) -> None:
    """Move the alias; `before` None leaves the way back as it is."""
    tags = {REASON_TAG: reason, SINCE_TAG: _now()} | ({} if before is None else {BEFORE_TAG: before})
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.set_registered_model_alias(name, CHAMPION, version)
    aliases = client.get_registered_model(name).aliases
    if str(aliases.get(CHALLENGER, "")) == version:
        client.delete_registered_model_alias(name, CHALLENGER)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two promotions at once see each other's champion (in this project; on a shared server the later one wins)."""
    state_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(state_folder() / "registry.lock"):
        yield


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")

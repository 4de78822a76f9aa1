"""The registry and its gate: which version is `champion`.

Figures are compared only on the same eval text (its SHA-256); a version measured on another text is no better and no
worse.
"""

from dataclasses import dataclass
from typing import Final, Literal

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.tracking.project import state_folder

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
PERPLEXITY_TAG, EVAL_TAG = "perplexity", "eval_sha256"


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


def promote(client: MlflowClient, name: str, candidate: Standing, *, max_perplexity: float) -> Decision:
    """Give `candidate` its alias, under a lock: two registrations at once see each other's champion."""
    with FileLock(state_folder() / "registry.lock"):
        champion = find_champion(client, name)
        decision = decide(candidate, champion, max_perplexity=max_perplexity)
        client.set_registered_model_alias(name, decision.alias, candidate.version)
        client.set_model_version_tag(name, candidate.version, "gate", f"{decision.alias}: {decision.reason}")
    return decision


def find_champion(client: MlflowClient, name: str) -> Standing | None:
    """Return the standing of the version with the alias `champion`, None if there is none."""
    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None
    return Standing(
        version=str(version.version),
        perplexity=float(version.tags.get(PERPLEXITY_TAG, "inf")),
        eval_sha256=version.tags.get(EVAL_TAG, ""),
    )

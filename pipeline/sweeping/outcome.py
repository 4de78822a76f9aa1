"""How a trial ended."""

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["done", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Outcome:
    """A trial that has ended: `perplexity` is evaluate's if it is done, else the last of its curve, or None.

    `values` are those that the sweep searches, `reason` is why it failed or diverged.
    """

    number: int
    state: State
    perplexity: float | None
    seconds: float
    values: dict[str, Any]
    reason: str = ""


def ranking(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the trials with a result, the best first."""
    done = [outcome for outcome in outcomes if outcome.state == "done" and outcome.perplexity is not None]
    return sorted(done, key=lambda outcome: (outcome.perplexity or 0.0, outcome.number))

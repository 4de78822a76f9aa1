"""A trial that runs, as the runner sees it."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.sweeping.process import TrialProcess
from pipeline.sweeping.study import Proposal


@dataclass(eq=False)
class Watched:
    """Its proposal, its processes and its last perplexity.

    If it was asked to end, `prune_by` is the time (monotonic) by which it must have, and `checkpoints` are what it
    leaves.
    """

    proposal: Proposal
    process: TrialProcess
    perplexity: float | None = None
    prune_by: float | None = None
    checkpoints: list[Path] = field(default_factory=list)

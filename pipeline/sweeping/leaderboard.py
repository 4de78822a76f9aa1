"""A sweep's results as text: one line a trial, the best of them, and the command that makes the best again."""

import json
import shlex
from typing import Any

from pipeline.sweeping.definition import Definition
from pipeline.sweeping.outcome import Outcome, ranking
from pipeline.sweeping.space import Choices, Dimension
from pipeline.tracking.naming import short_names

NOTED = 20


def best_command(options: list[str]) -> str:
    """Return the command that runs the pipeline with "key=value" options."""
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(option)}" for option in options)])


def shown(value: Any) -> str:
    """Return a param's value for people."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def figure(outcome: Outcome) -> str:
    """Return a trial's perplexity, or what became of it."""
    perplexity = "" if outcome.perplexity is None else f"{outcome.perplexity:.3f}"
    if outcome.state == "done":
        return perplexity
    return f"{outcome.state} at {perplexity}" if perplexity and outcome.state != "failed" else outcome.state


def note(definition: Definition, outcomes: list[Outcome]) -> str:
    """Return what the sweep's run in MLflow says of itself, in Markdown."""
    names = short_names(list(definition.search))
    lines = [definition.title, "", "| param | searched |", "| --- | --- |"]
    lines += [f"| {key} | {_described(dimension)} |" for key, dimension in definition.search.items()]
    ended = {state: sum(one.state == state for one in outcomes) for state in ("done", "pruned", "diverged", "failed")}
    counts = ", ".join(f"{count} {state}" for state, count in ended.items() if count) or "none yet"
    lines += ["", f"Trials: {counts}; {definition.trials} wanted.", ""]
    if best := ranking(outcomes)[:NOTED]:
        lines += [f"| trial | perplexity | {' | '.join(names.values())} |", f"| --- | --- |{' --- |' * len(names)}"]
        for one in best:
            values = " | ".join(shown(one.values[key]) for key in names)
            lines.append(f"| {one.number:04} | {one.perplexity:.3f} | {values} |")
    return "\n".join(lines)


def _described(dimension: Dimension) -> str:
    if isinstance(dimension, Choices):
        return ", ".join(shown(choice) for choice in dimension.choices)
    step = f", step {shown(dimension.step)}" if dimension.step is not None else ""
    return f"{shown(dimension.low)} to {shown(dimension.high)}{', log' if dimension.log else ''}{step}"

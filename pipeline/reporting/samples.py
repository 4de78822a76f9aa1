"""The texts that the generate stage wrote, and what is known of each."""

from dataclasses import dataclass
from typing import Any

from pipeline.reporting.project import Project
from pipeline.reporting.words import is_number, percent, whole


@dataclass(frozen=True)
class Sample:
    """A written text: how, after what, and its figures in words."""

    mode: str
    how: str
    prompt: str
    completion: str
    figures: str


def samples(project: Project) -> list[Sample]:
    """Return the samples as they stand in the file, greedy first there."""
    found = project.json("samples/samples.json")
    return [_sample(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _sample(one: dict[str, Any]) -> Sample:
    mode = str(one.get("mode", ""))
    how = "always the likeliest character" if mode == "greedy" else f"temperature {one.get('temperature')}"
    if one.get("seed") is not None:
        how += f", seed {one['seed']}"
    figures = [
        text
        for key, text in (
            ("known_words", f"{percent(one.get('known_words'), 0)} of the words stand in the training text"),
            ("longest_repeat", f"longest repeat {whole(one.get('longest_repeat'))}"),
            ("longest_copy", f"longest copy from the training text {whole(one.get('longest_copy'))} characters"),
        )
        if is_number(one.get(key))
    ]
    if one.get("finish_reason") == "stop":
        figures.append("ended by itself")
    return Sample(mode, how, str(one.get("prompt", "")), str(one.get("completion", "")), ", ".join(figures))

"""The texts that the generate stage wrote, and what is known of each."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import LOGIN
from pipeline.reporting.project import Project

# What the breakdown's tables and the texts call characters that have no shape, and how each is shown.
SIGNS = {"space": "␣", "newline": "⏎", "tab": "⇥", " ": "␣", "\n": "⏎", "\t": "⇥"}
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
ABSOLUTE = re.compile(r"^(?:file://)?(?:/|~|[A-Za-z]:[\\/])(?=.)")


def decimal(value: Any, places: int = 3) -> str:
    """Return a number with `places` digits after the point, NOTHING for what is none."""
    return f"{value:,.{places}f}" if is_number(value) else NOTHING


def whole(value: Any) -> str:
    """Return a number without digits after the point, NOTHING for what is none."""
    return decimal(value, 0)


def percent(share: Any, places: int = 1) -> str:
    """Return a share of 1 as a percentage, NOTHING for what is no number."""
    return f"{100 * share:.{places}f} %" if is_number(share) else NOTHING


def signed(value: float, places: int = 2) -> str:
    """Return a difference with its sign; one that rounds to nothing has none."""
    shown = f"{abs(value):,.{places}f}"
    return shown if float(shown.replace(",", "")) == 0 else f"{'+' if value > 0 else MINUS}{shown}"


def seconds(value: Any) -> str:
    """Return a duration."""
    if not is_number(value):
        return NOTHING
    if value < 120:  # noqa: PLR2004
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004


def is_number(value: Any) -> bool:
    """Return whether `value` is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def sign(name: str) -> str:
    """Return a character so that it can be seen, given as itself or by its name in the breakdown's tables."""
    if name in SIGNS:
        return SIGNS[name]
    return name if len(name) != 1 or name.isprintable() else f"U+{ord(name):04X}"


def param(value: Any) -> str:
    """Return a param's value as `dvc exp run -S` takes it; of an absolute path only the last part, to name nobody."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    if ABSOLUTE.match(value):
        last = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        return f"…/{last}"
    return LOGIN.sub("", value)


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
            ("known_words", f"{percent(one.get('known_words'), 0)} of the words occur in the training text"),
            ("longest_repeat", f"longest repeat {whole(one.get('longest_repeat'))}"),
            ("copied", f"{percent(one.get('copied'), 0)} copied from the training text"),
        )
        if is_number(one.get(key))
    ]
    if one.get("finish_reason") == "stop":
        figures.append("ended by itself")
    return Sample(mode, how, str(one.get("prompt", "")), str(one.get("completion", "")), ", ".join(figures))

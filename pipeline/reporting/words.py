"""How numbers, characters and values are written on the page."""

import json
import math
import re
from typing import Any

from pipeline.errors import SECRETS

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
    return SECRETS.sub("", value)

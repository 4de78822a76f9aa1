"""Formats numbers, durations, params and invisible characters for the report."""

import json
import math
import re
from typing import Any

from pipeline.core.errors import without_secrets

# Symbols for invisible characters: the same in the report, in `charlm score` and in the playground (words.js).
# U+2423 and U+21B5 are in nearly every font; U+2420 is missing from many.
INVISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}
# The tables of `evaluate` have names for these characters.
NAMES = {"space": " ", "newline": "\n", "tab": "\t"}
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
ABSOLUTE = re.compile(r"^(?:file://)?(?:/|~|[A-Za-z]:[\\/])(?=.)")


def decimal(value: Any, places: int = 3) -> str:
    """Return a number with `places` decimals; NOTHING if `value` is not a finite number."""
    return f"{value:,.{places}f}" if is_number(value) else NOTHING


def whole(value: Any) -> str:
    """Return a number rounded to an integer; NOTHING if `value` is not a finite number."""
    return decimal(value, 0)


def percent(share: Any, places: int = 1) -> str:
    """Return a fraction (0 to 1) as a percentage; NOTHING if `share` is not a finite number."""
    return f"{100 * share:.{places}f} %" if is_number(share) else NOTHING


def signed(value: float, places: int = 2) -> str:
    """Return a difference with its sign, or without one if it rounds to zero."""
    shown = f"{abs(value):,.{places}f}"
    return shown if float(shown.replace(",", "")) == 0 else f"{'+' if value > 0 else MINUS}{shown}"


def seconds(value: Any) -> str:
    """Return a duration, given in seconds, in a readable unit; NOTHING if `value` is not a finite number."""
    if not is_number(value):
        return NOTHING
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite number (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def visible(name: str) -> str:
    """Return a character, given as itself or by its name in the tables of `evaluate`, as a visible symbol."""
    char = NAMES.get(name, name)
    if char in INVISIBLE:
        return INVISIBLE[char]
    return char if len(char) != 1 or char.isprintable() else f"U+{ord(char):04X}"


def param(value: Any) -> str:
    """Return a param's value as `dvc exp run -S` takes it; an absolute path is cut to its last part, to hide names."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    if ABSOLUTE.match(value):
        last = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        return f"…/{last}"
    return without_secrets(value)

"""Names of runs: what differs from the commit, in place of the random names that DVC gives to experiments."""

import json
import re
from collections.abc import Mapping
from functools import cache
from types import CodeType
from typing import Any

MAX_NAME = 60
MAX_SHOWN_VALUE = 24
# DVC's random names are an adjective of five letters and a noun of four, as in "muggy-toms".
RANDOM_NAME = re.compile(r"([a-z]{5})-([a-z]{4})")


def run_name(experiment: str | None, changed: Mapping[str, Any], *, otherwise: str) -> str:
    """Return the name of a run: `experiment` if a person chose it, else the `changed` params, as "num_hidden=128".

    If no param changed, the random name of the experiment; outside of an experiment, `otherwise`.
    """
    if experiment and not is_random(experiment):
        return experiment
    return describe(changed) or experiment or otherwise


def describe(params: Mapping[str, Any]) -> str:
    """Return flat params as "num_hidden=128, epochs=2", with at most MAX_NAME characters; "" if there are none."""
    names = short_names(list(params))
    parts = [f"{names[key]}={format_value(value)}" for key, value in params.items()]
    for count in range(len(parts), 0, -1):
        more = f" and {len(parts) - count} more" if count < len(parts) else ""
        if len(text := ", ".join(parts[:count]) + more) <= MAX_NAME:
            return text
    return parts[0][: MAX_NAME - 1] + "…" if parts else ""


def short_names(keys: list[str]) -> dict[str, str]:
    """Return for each dotted key its last part, or the whole where that is no longer distinct."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def format_value(value: Any) -> str:
    """Return a param's value for people; of a long one only the end, where paths differ."""
    if isinstance(value, float):
        text = f"{value:g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN_VALUE else f"…{text[1 - MAX_SHOWN_VALUE :]}"


def is_random(experiment: str) -> bool:
    """Return whether DVC made up this name: both words are in its lists."""
    found = RANDOM_NAME.fullmatch(experiment)
    return found is not None and set(found.groups()) <= _random_words()


@cache
def _random_words() -> frozenset[str]:
    """Return the words of DVC's random names. They are constants of its function: there is no other way to them."""
    from dvc.repo.experiments.utils import gen_random_name  # 0.6 s

    code: CodeType = gen_random_name.__code__
    return frozenset(word for constant in code.co_consts if isinstance(constant, tuple) for word in constant)

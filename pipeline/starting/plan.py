"""All that `charlm new` sets for a text, with a reason for each key."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.corpus.advice import Advice
from pipeline.corpus.cleaning import rule_of
from pipeline.corpus.survey import Survey
from pipeline.params.clean import CleanParams
from pipeline.params.groups import GROUPS
from pipeline.params.overrides import Values, override
from pipeline.params.reader import flatten, parse_group
from pipeline.params.register import AUTO
from pipeline.starting.prompts import find_prompts

# What hangs on the text: a value that an earlier text needed must not stay. These are the values of the shipped file.
OF_EARLIER_TEXTS: dict[str, Any] = {
    "data.text_column": "text", "data.id_column": None, "data.metadata": [], "data.sha256": None,
    "clean.charset": "ascii", "clean.normalize": "nfc", "clean.keep_newlines": True, "clean.keep_tabs": False,
    "clean.lowercase": False, "clean.whitespace": "keep", "clean.min_count": 0,
    "split.samples": "stream", "split.buckets": [32], "split.by": "position", "split.train_fraction": 0.9,
    "split.test_fraction": 0.0, "split.group_by": None, "split.column": None, "split.train_until": None,
    "split.eval_until": None,
}  # fmt: skip
LOWEST_GATE = 5.0


def changes(before: Mapping[str, Any], advice: Sequence[Advice], options: Sequence[str]) -> tuple[Values, list[Advice]]:
    """Return the params (by group) that `before` becomes, and the advice that changes or confirms a value.

    `options` ("key=value") are the user's own and win over `advice`. UserError if a key or a value is wrong; nothing is
    written here.
    """
    given = {option.partition("=")[0] for option in options}
    after = override(before, options, groups=list(GROUPS))
    # Of two values for a key the later one counts: it was found with more knowledge.
    chosen = list({one.key: one for one in advice if one.key not in given}.values())
    chosen += _forgotten(before, {one.key for one in advice} | given)
    after = override(after, [f"{one.key}={one.value}" for one in chosen], groups=list(GROUPS))
    for name, kind in GROUPS.items():
        parse_group(name, after.get(name), kind)
    own = [Advice(key, value, "your own choice (-S)") for key, _, value in (one.partition("=") for one in options)]
    return after, [*chosen, *own]


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ, by dotted key."""
    old = flatten(dict(before))
    return {key: value for key, value in flatten(dict(after)).items() if key not in old or old[key] != value}


def advise_writing(found: Survey, text: str, clean: CleanParams, *, name: str) -> list[Advice]:
    """Return the prompts, the registered name and the gate for the text that `found` is about.

    `text` is its beginning and `clean` how it will be cleaned; `name` is the registered model's, `auto` for its own.
    """
    prompts = find_prompts(_joined(text, clean), is_usable=usable(found, clean))
    advice = []
    if prompts:
        why = "frequent beginnings of its sentences" if len(prompts) > 1 else "a beginning of its sentences"
        advice.append(Advice("generate.prompts", json.dumps(prompts, ensure_ascii=False), why))
    why = "a name for this text, after its source" if name == AUTO else "your own choice (--name)"
    gate = max(LOWEST_GATE, round(guessing_perplexity(found), 1))
    return [
        *advice,
        Advice("register.model_name", name, why),
        Advice(
            "register.max_perplexity", f"{gate:g}", "what guessing by character frequencies gives: a champion is better"
        ),
    ]


def guessing_perplexity(found: Survey) -> float:
    """Return the perplexity of a model that knows only how frequent each character is."""
    counts = found.counts[found.counts > 0]
    shares = counts / counts.sum()
    return math.exp(-float((shares * np.log(shares)).sum()))


def usable(found: Survey, clean: CleanParams) -> Callable[[str], bool]:
    """Return a function that says whether a prompt stays as it is when it is cleaned, and the model knows it."""
    rule = rule_of(clean)

    def is_usable(prompt: str) -> bool:
        return all(found.counts[ord(char)] >= max(clean.min_count, 1) and not rule(char)[1] for char in prompt)

    return is_usable


def _joined(text: str, clean: CleanParams) -> str:
    return text if clean.keep_newlines else text.replace("\n", "")


def _forgotten(before: Mapping[str, Any], named: Collection[str]) -> list[Advice]:
    """Return the keys that still have the value of an earlier text, set back."""
    old = flatten(dict(before))
    return [
        Advice(key, json.dumps(value), f"params.yaml had {json.dumps(old[key], ensure_ascii=False)}, for another text")
        for key, value in OF_EARLIER_TEXTS.items()
        if key not in named and key in old and old[key] != value
    ]

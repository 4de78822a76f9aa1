"""Chooses the params that `charlm new` writes for a text: source, network, training, prompts and registered name."""

import csv
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.cleaning.rules import rule_of
from pipeline.model.saved import NetworkConfig
from pipeline.params.groups import GROUPS, Values, override
from pipeline.params.reader import flatten, parse_group, parse_value
from pipeline.params.text import AUTO, CleanParams, DataParams, SplitParams
from pipeline.params.training import ModelParams
from pipeline.sources.files import has_known_ending
from pipeline.survey.prompts import find_prompts
from pipeline.survey.survey import Advice, Survey

TEXT_COLUMN = "text"
# Endings of text files that the input check accepts only from a glob.
TEXT_ENDINGS = (".md", ".markdown", ".rst", ".tex", ".org", ".adoc")
ROWS = 200
SEPARATORS = ",;\t|"


def suggest_source(source: str, root: Path) -> list[Advice]:
    """Return `data.source` for what the user typed, and for a table also `data.text_column`, with reasons."""
    path = root / Path(source).expanduser()
    if path.is_dir() and (ending := _text_ending(path)):
        pattern = f"{source.rstrip('/')}/**/*{ending}"
        return [Advice("data.source", as_value(pattern), f"the folder has no .txt files or tables, but {ending} files")]
    advice = [Advice("data.source", as_value(source), "the text")]
    if path.is_file() and (column := find_text_column(path)):
        advice.append(Advice("data.text_column", as_value(column), "the column with the most text"))
    return advice


def as_value(text: str) -> str:
    """Return `text` as the value of an option: quoted if YAML would not read it as this string."""
    return text if parse_value(text) == text else json.dumps(text, ensure_ascii=False)


def find_text_column(path: Path) -> str | None:
    """Return the column of the table `path` that holds the text.

    This is the column called `text`, or else the one with the most characters in the first rows. None if the file is
    not a table or cannot be read as one here; the input check then reports what is wrong.
    """
    read = {
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".parquet": _parquet_rows,
    }
    kind = path.suffix.lower()
    if kind not in read:
        return None
    sizes: Counter[str] = Counter()
    try:
        for row in itertools.islice(read[kind](path), ROWS):
            for column, value in row.items():
                sizes[column] += len(value) if isinstance(value, str) else 0
    except (OSError, ValueError, csv.Error):
        return None
    if not sizes:
        return None
    return TEXT_COLUMN if TEXT_COLUMN in sizes else sizes.most_common(1)[0][0]


def _csv_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline()
        file.seek(0)
        separator = max(SEPARATORS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))
        for row in csv.DictReader(file, delimiter=separator):
            yield {column: value for column, value in row.items() if column}


def _json_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            row = json.loads(line) if line.strip() else {}
            if isinstance(row, dict):
                yield row


def _parquet_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            yield from batch.to_pylist()


def _text_ending(folder: Path) -> str | None:
    """Return the most frequent of TEXT_ENDINGS in `folder`; None if there is none, or any file has a known ending."""
    endings: Counter[str] = Counter()
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(has_known_ending(name) for name in names if not name.startswith(".")):
            return None
        endings.update(Path(name).suffix for name in names if Path(name).suffix.lower() in TEXT_ENDINGS)
    return endings.most_common(1)[0][0] if endings else None


# A text with fewer characters is too small to be learnt well by any network.
SMALL_TEXT = 100_000
# A network with more parameters per character of text than this memorises the text.
MOST_PARAMETERS = 10.0
# The number of characters, over all epochs, that the default network trains on in a minute or two on two cores.
TRAINED_CHARS = 6_000_000


@dataclass(frozen=True)
class Fit:
    """The values that gave the best perplexity for a text of fewer than `below` characters."""

    below: int
    hidden: int
    dropout: float
    batch: int
    rate: float
    epochs: float


FITS = (
    Fit(100_000, 256, 0.5, 8, 0.006, 12.0),
    Fit(500_000, 384, 0.3, 32, 0.01, 7.0),
)
DEFAULT = Fit(2_000_000, 384, 0.0, 32, 0.01, 3.5)

THE_DEFAULT = "the default"


def fit(characters: int) -> list[Advice]:
    """Return params of the groups `model` and `train` for a text of this size, with reasons."""
    one = next((one for one in FITS if characters < one.below), DEFAULT)
    size = f"{characters:,} characters"
    small, epochs = one is not DEFAULT, one.epochs
    if characters >= DEFAULT.below:
        epochs = max(round(TRAINED_CHARS / characters, 2), 0.01)
    if characters >= DEFAULT.below:
        passes = f"about {TRAINED_CHARS / 1e6:.0f} million characters train in a minute or two"
    else:
        passes = f"so few characters need more passes than the default {DEFAULT.epochs:g}" if small else THE_DEFAULT
    batches = "more updates in each pass of a small text" if one.batch < DEFAULT.batch else THE_DEFAULT
    forgets = f"without it a network of {one.hidden} learns {size} by heart" if small else f"{THE_DEFAULT}: enough text"
    return [
        Advice("model.num_hidden", str(one.hidden), "gave the best perplexity for a text of this size"),
        Advice("model.dropout", f"{one.dropout:g}", forgets),
        Advice("train.epochs", f"{epochs:g}", passes),
        Advice("train.batch_size", str(one.batch), batches),
        Advice("train.optimizer.lr", f"{one.rate:g}", f"fits batches of {one.batch}"),
    ]


def hint(characters: int, model: ModelParams, *, vocab_size: int) -> str | None:
    """Return a warning if the text is too small for its network, None if it is not."""
    shapes = NetworkConfig.of(model, vocab_size=vocab_size).shapes().values()
    parameters = sum(_product(shape) for shape in shapes)
    if characters >= SMALL_TEXT and parameters <= MOST_PARAMETERS * characters:
        return None
    found = f"HINT: {characters:,} characters are few for a network of {parameters:,} parameters"
    return (
        f"{found}: expect misspelt words and phrases copied from the text; more text helps most, "
        "or a start from a model of other texts (docs/tune.md)"
    )


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


# Params of reading, cleaning and splitting that do not depend on the text.
OF_NO_TEXT = ("data.source", "data.select", "data.max_gb")
LOWEST_GATE = 5.0


def changes(before: Mapping[str, Any], advice: Sequence[Advice], options: Sequence[str]) -> tuple[Values, list[Advice]]:
    """Return the new params (by group) that replace `before`, and the advice that was followed.

    `options` ("key=value") are the user's own choices and take precedence over `advice`. UserError if a key or a value
    is wrong. Nothing is written.
    """
    given = {option.partition("=")[0] for option in options}
    after = override(before, options, groups=list(GROUPS))
    # Later advice replaces earlier advice for the same key: it is based on more information.
    chosen = list({one.key: one for one in advice if one.key not in given}.values())
    chosen += _reset_to_shipped(before, {one.key for one in advice} | given)
    after = override(after, [f"{one.key}={one.value}" for one in chosen], groups=list(GROUPS))
    for name, kind in GROUPS.items():
        parse_group(name, after.get(name), kind)
    own = [Advice(key, value, "your own choice (-S)") for key, _, value in (one.partition("=") for one in options)]
    return after, [*chosen, *own]


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `after` that differ from `before`, by dotted key."""
    old = flatten(dict(before))
    return {key: value for key, value in flatten(dict(after)).items() if key not in old or old[key] != value}


def advise_writing(found: Survey, text: str, clean: CleanParams, *, name: str) -> list[Advice]:
    """Return prompts, the name of the registered model and the limit for a champion, for the surveyed text.

    `text` is the beginning of the text, `clean` how it will be cleaned, `name` the registered model's name or `auto`.
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
    """Return the perplexity of a model that only knows the frequency of each character."""
    counts = found.counts[found.counts > 0]
    shares = counts / counts.sum()
    return math.exp(-float((shares * np.log(shares)).sum()))


def usable(found: Survey, clean: CleanParams) -> Callable[[str], bool]:
    """Return a function that tests a prompt: cleaning leaves it unchanged, and the model will know its characters."""
    rule = rule_of(clean)

    def is_usable(prompt: str) -> bool:
        return all(found.counts[ord(char)] >= max(clean.min_count, 1) and not rule(char)[1] for char in prompt)

    return is_usable


def _joined(text: str, clean: CleanParams) -> str:
    return text if clean.keep_newlines else text.replace("\n", "")


def _reset_to_shipped(before: Mapping[str, Any], named: Collection[str]) -> list[Advice]:
    """Return advice that resets the keys whose value was chosen for an earlier text."""
    old = flatten(dict(before))
    shipped = {
        f"{name}.{key}": json.loads(json.dumps(field.get_default(call_default_factory=True)))
        for name, group in (("data", DataParams), ("clean", CleanParams), ("split", SplitParams))
        for key, field in group.model_fields.items()
        if f"{name}.{key}" not in OF_NO_TEXT
    }
    return [
        Advice(key, json.dumps(value), f"params.yaml had {json.dumps(old[key], ensure_ascii=False)}, for another text")
        for key, value in shipped.items()
        if key not in named and key in old and old[key] != value
    ]

"""What `charlm new` takes a folder or a table to mean: which files, and which column is the text."""

import csv
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.corpus.advice import Advice
from pipeline.corpus.places.source_file import has_known_ending
from pipeline.params.reader import parse_value

TEXT_COLUMN = "text"
# Files that are text although only a glob takes them.
TEXT_ENDINGS = (".md", ".markdown", ".rst", ".tex", ".org", ".adoc")
ROWS = 200
SEPARATORS = ",;\t|"


def suggest_source(source: str, root: Path) -> list[Advice]:
    """Return `data.source`, and `data.text_column` of a table, for what was typed, with reasons."""
    path = root / Path(source).expanduser()
    if path.is_dir() and (ending := _text_ending(path)):
        pattern = f"{source.rstrip('/')}/**/*{ending}"
        return [Advice("data.source", as_value(pattern), f"the folder has no .txt files or tables, but {ending} files")]
    advice = [Advice("data.source", as_value(source), "the text")]
    if path.is_file() and (column := find_text_column(path)):
        advice.append(Advice("data.text_column", as_value(column), "the column with the most text"))
    return advice


def as_value(text: str) -> str:
    """Return a string as the value of an option: in quotes if YAML would read something else than this string."""
    return text if parse_value(text) == text else json.dumps(text, ensure_ascii=False)


def find_text_column(path: Path) -> str | None:
    """Return the column of the table `path` that holds the text.

    It is the one called `text`, or else the one with the most characters in the first rows. None if the file is no
    table or cannot be read as one here; the input check then says what is wrong.
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
    """Return the most frequent of TEXT_ENDINGS in `folder`; None if it has files of a known ending, or no such."""
    endings: Counter[str] = Counter()
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(has_known_ending(name) for name in names if not name.startswith(".")):
            return None
        endings.update(Path(name).suffix for name in names if Path(name).suffix.lower() in TEXT_ENDINGS)
    return endings.most_common(1)[0][0] if endings else None

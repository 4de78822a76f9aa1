"""A file of a source, and what it contains by the ending of its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError

TEXT = "text"
KINDS = {".txt": TEXT, ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
ENDINGS = ", ".join(KINDS)


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is relative to the source, with forward slashes; `member` is its name in a zip."""

    name: str
    path: Path
    member: str | None = None

    @property
    def packing(self) -> str | None:
        """How the file is compressed: "gzip", "zstd" or None."""
        return PACKINGS.get(_ending(self.name))

    @property
    def kind(self) -> str:
        """What the file contains: "text", "csv", "tsv", "jsonl" or "parquet"; an unknown ending means text."""
        return KINDS.get(_inner_ending(self.name), TEXT)

    @property
    def is_table(self) -> bool:
        """Whether the file is a table, with one document in each row."""
        return self.kind != TEXT


def has_known_ending(name: str) -> bool:
    """Return whether the ending of a file's name is one that says what it contains."""
    return _inner_ending(name) in KINDS


def hold_tables(files: Sequence[SourceFile], source: str) -> bool:
    """Return whether `files` are tables rather than text; UserError if there are both."""
    table = next((file.name for file in files if file.is_table), None)
    text = next((file.name for file in files if not file.is_table), None)
    if table and text:
        raise UserError(
            f"data.source: {source}: contains text ({text}) and tables ({table}); allowed is one kind, as by a glob"
        )
    return table is not None


def _inner_ending(name: str) -> str:
    ending = _ending(name)
    return _ending(name[: -len(ending)]) if ending in PACKINGS else ending


def _ending(name: str) -> str:
    """Return the last ending of a name in lower case, with its dot; faster than pathlib, for many files."""
    base = name.rpartition("/")[2]
    at = base.rfind(".")
    return base[at:].lower() if at > 0 else ""

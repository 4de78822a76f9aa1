"""One file of a source: its stable name, where it lies, and what its ending says of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

TEXT = "text"
KINDS = {".txt": TEXT, ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
ENDINGS = ", ".join(KINDS)


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: `name` is relative to the source, with forward slashes; `member` is set inside a zip."""

    name: str
    path: Path
    member: str | None = None

    @property
    def packing(self) -> str | None:
        """How the file itself is packed: "gzip", "zstd" or None."""
        return PACKINGS.get(_ending(self.name))

    @property
    def kind(self) -> str:
        """What the file holds: "text", "csv", "tsv", "jsonl" or "parquet"; an unknown ending is text."""
        return KINDS.get(_inner_ending(self.name), TEXT)

    @property
    def is_table(self) -> bool:
        """Whether the file holds one document a row."""
        return self.kind != TEXT


def has_known_ending(name: str) -> bool:
    """Return whether a file's ending says what it holds."""
    return _inner_ending(name) in KINDS


def hold_tables(files: Sequence[SourceFile], source: str) -> bool:
    """Return whether `files` are tables, not text; UserError if there are both."""
    table = next((file.name for file in files if file.is_table), None)
    text = next((file.name for file in files if not file.is_table), None)
    if table and text:
        raise UserError(
            f"data.source: {source}: holds text ({text}) and tables ({table}); allowed is one of both, as by a glob"
        )
    return table is not None


def _inner_ending(name: str) -> str:
    ending = _ending(name)
    return _ending(name[: -len(ending)]) if ending in PACKINGS else ending


def _ending(name: str) -> str:
    """Return the last ending of a name in lower case, with its dot; quicker than pathlib, for many files."""
    base = name.rpartition("/")[2]
    at = base.rfind(".")
    return base[at:].lower() if at > 0 else ""

"""What was found of files that have not changed since: hashing a large text costs seconds, asking for its time none.

A file is the same if its path, size, time of change and inode are. One that was written within the last two seconds
could be written again at the same time of its clock, so that nothing of it is remembered (as Git does, "racily clean").
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file

# To be raised when files are looked at more strictly.
VERSION = 1
RACY_NS = 2_000_000_000


class Remembered:
    """Facts of files by (path, what was asked), kept in the JSON file `kept`."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._known = _read(kept)
        self._used: dict[str, Any] = {}

    def get(self, path: Path, asked: str, find: Callable[[], Any]) -> Any:
        """Return `find()`, JSON data, or what it said when `path` was the same and the same was asked of it."""
        key = json.dumps([VERSION, str(path), asked])
        now = time.time_ns()
        try:
            status = path.stat()
        except OSError:
            return find()  # which says what is wrong with it
        same = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(key)
        if known and known["same"] == same:
            self._used[key] = known
            return known["found"]
        found = find()
        if now - status.st_mtime_ns >= RACY_NS:
            self._used[key] = {"same": same, "found": found}
        return found

    def save(self) -> None:
        """Write what was asked for, and only that, if it is not what was read."""
        if self._used != self._known:
            with whole_file(self._kept) as part:  # on one line: indenting takes ten times as long
                part.write_text(json.dumps(self._used), encoding="utf-8")


def _read(kept: Path) -> dict[str, Any]:
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


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

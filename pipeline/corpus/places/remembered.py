"""What was found of files that have not changed since: hashing a large text costs seconds, asking for its time none.

A file is the same if its path, size, time of change and inode are. One that was written within the last two seconds
could be written again at the same time of its clock, so that nothing of it is remembered (as Git does, "racily clean").
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.files import whole_file

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

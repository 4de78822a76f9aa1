"""The downloaded sources that `charlm clean` finds."""

import os
import time

from pipeline.lineage import disk


def test_old_downloads_are_deleted_unless_they_were_read_lately(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "state_folder", lambda: tmp_path)
    now, day = time.time(), 86_400
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name, read, written in [("old.txt", 40, 50), ("read.txt", 1, 50), ("new.txt", 0, 0), (".lock", 40, 50)]:
        (folder / name).write_text("text")
        os.utime(folder / name, (now - read * day, now - written * day))
    waste = disk._downloads(now - 30 * day)
    assert (waste.names, waste.size) == (["old.txt"], 4)
    waste.remove()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "new.txt", "read.txt"]


def test_without_downloads_there_is_no_waste(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "state_folder", lambda: tmp_path)
    assert disk._downloads(time.time()).names == []

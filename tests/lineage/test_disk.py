"""The downloaded sources that `charlm clean` finds."""

import os
import time
from types import SimpleNamespace

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


def version(number, *, aliases=(), **tags):
    return SimpleNamespace(version=str(number), aliases=list(aliases), tags=tags)


def test_versions_with_an_alias_a_rollback_or_a_tuned_model_are_needed():
    own = [
        version(1, weights_sha256="a"),
        version(2, weights_sha256="b"),
        version(3, weights_sha256="c"),
        version(4, weights_sha256="d", aliases=["champion"], **{"champion.before": "2"}),
    ]
    tuned = version(1, weights_sha256="e", start_sha256="c")  # of another registered model
    assert [one.version for one in disk._unneeded(own, [*own, tuned])] == ["1"]
    assert [one.version for one in disk._unneeded(own, own)] == ["1", "3"]

"""Small files of revisions, from Git or through dvc.lock from DVC's cache: fast, as nothing is copied.

What neither has is None; `snapshots.snapshot` also asks DVC's remote.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.lock import LOCK_FILE
from pipeline.tracking.git import files_at
from pipeline.tracking.project import project_root


def small_files(revisions: Sequence[str], names: Sequence[str]) -> list[dict[str, str | None]]:
    """Return for each revision the texts of the files `names` (relative to the project), by name."""
    wanted = [*names, str(LOCK_FILE)]
    texts = iter(files_at([(revision, name) for revision in revisions for name in wanted]))
    found = [{name: next(texts) for name in wanted} for _ in revisions]
    for files in found:
        hashes = _hashes(files[str(LOCK_FILE)] or "")
        for name in names:
            if files[name] is None and name in hashes:
                files[name] = _cached(hashes[name])
    return found


@lru_cache(maxsize=64)
def _hashes(lock: str) -> dict[str, str]:
    """Return the MD5 of each output that dvc.lock names."""
    try:
        # Not the pure Python parser, which is ten times as slow: paths and hashes are read alike by YAML 1.1 and 1.2.
        content: dict[str, Any] = YAML(typ="safe").load(lock) or {}
        outs = [out for stage in content.get("stages", {}).values() for out in stage.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if "md5" in out}
    except (YAMLError, AttributeError, KeyError, TypeError):
        return {}


def _cached(md5: str) -> str | None:
    try:
        return (_cache_folder() / md5[:2] / md5[2:]).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _cache_folder() -> Path:
    from dvc.config import Config  # the cache may be in another place than .dvc/cache

    folder = project_root() / ".dvc"
    place = Config(str(folder)).get("cache", {}).get("dir")
    return folder / str(place or "cache") / "files/md5"

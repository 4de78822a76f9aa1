"""The registry's aliases by the models' weights, read from the local SQLite file without loading MLflow (seconds).

Only for what is shown to people; whatever changes the registry goes through MLflow (registry.py). A file that cannot be
read, as one of another MLflow version, counts as an empty registry.
"""

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.tracking.project import project_root

SQLITE = "sqlite:///"
CHAMPION, CHAMPION_REASON = "champion", "champion.reason"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model: its alias ("" if it has none), and why it has that alias ("" if not known)."""

    model: str
    version: int
    alias: str
    reason: str


def registry_is_remote() -> bool:
    """Return whether the registry is at an address that only MLflow can read."""
    return _registry_file() is None


def local_versions(model: str | None = None) -> dict[str, Registered]:
    """Return the versions in the local registry (of one `model`) by the SHA-256 of their weights.

    Of several versions with the same weights the champion counts, else the newest. Empty if there is no local registry.
    """
    path = _registry_file()
    if path is None or not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            aliases = {
                (name, int(version)): alias
                for name, version, alias in database.execute(
                    "SELECT name, version, alias FROM registered_model_aliases"
                )
            }
            tags: dict[tuple[str, int], dict[str, str]] = {}
            for name, version, key, value in database.execute(
                "SELECT name, version, key, value FROM model_version_tags "
                "WHERE key IN ('weights_sha256', 'gate', 'champion.reason')"
            ):
                tags.setdefault((name, int(version)), {})[key] = value
    except sqlite3.Error:
        return {}
    found = []
    for (name, version), one in tags.items():
        if model is not None and name != model:
            continue
        alias = aliases.get((name, version), "")
        found.append((Registered(name, version, alias, reason_of(alias, one)), one.get("weights_sha256")))
    return by_weights(found)


def by_weights(found: Iterable[tuple[Registered, str | None]]) -> dict[str, Registered]:
    """Return versions, given with the SHA-256 of their weights, by that hash: the champion first, then the newest."""
    ordered = sorted(found, key=lambda pair: (pair[0].alias == CHAMPION, pair[0].version))
    return {weights: one for one, weights in ordered if weights}


def reason_of(alias: str, tags: Mapping[str, str]) -> str:
    """Return why a version has its alias, from its tags: a champion's own, else that of the gate ("challenger: …")."""
    if alias == CHAMPION and CHAMPION_REASON in tags:
        return tags[CHAMPION_REASON]
    given, _, reason = tags.get("gate", "").partition(": ")
    return reason if given == alias else ""


def _registry_file() -> Path | None:
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return project_root() / "mlflow.db"
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None

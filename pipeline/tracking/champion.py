"""Small files of the champion: what its run published, to compare a new text with.

MLflow is loaded only if there may be a champion.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.params.register import registered_name
from pipeline.tracking.project import project_root


@dataclass(frozen=True)
class OfChampion:
    """The text of a file of the champion's run, and the champion's version."""

    version: str
    text: str


def there_may_be_one() -> bool:
    """Return whether a registry is named or lies here; without loading MLflow, which takes seconds."""
    named = os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_REGISTRY_URI")
    return bool(named) or (project_root() / "mlflow.db").exists()


def of_champion(artifact: str) -> OfChampion | None:
    """Return an artifact of the run that made this text's champion; None without champion or artifact.

    Whatever MLflow raises is let through: a server may be away.
    """
    if not there_may_be_one():
        return None
    from pipeline.tracking.registry import champion_version  # these load MLflow
    from pipeline.tracking.store import open_store

    name = registered_name()
    with open_store() as (client, _):
        champion = champion_version(client, name)
        folder = artifact.rpartition("/")[0]
        if champion is None or not any(one.path == artifact for one in client.list_artifacts(champion.run_id, folder)):
            return None
        with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
            path = Path(client.download_artifacts(champion.run_id, artifact, temporary))
            return OfChampion(str(champion.version), path.read_text(encoding="utf-8"))

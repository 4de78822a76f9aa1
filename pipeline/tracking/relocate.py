"""After the project's folder was moved: MLflow's artifact addresses are absolute, and still name the old place."""

import sqlite3
from pathlib import Path

from pipeline.core.errors import UserError

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def relocate(root: Path, *, experiment: str = "charlm") -> tuple[str, int]:
    """Let the addresses in mlflow.db under `root` point into `root`; returns the old folder and how many were changed.

    All in one transaction. UserError if there is no database or no experiment in it.
    """
    path = root / "mlflow.db"
    if not path.exists():
        raise UserError(f"mlflow.db: no such file in {root.name}; nothing was logged here yet")
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
        if found is None:
            raise UserError(f"mlflow.db: no experiment {experiment!r}")
        old, new = found[0].removesuffix("/mlruns"), root.resolve().as_uri()
        if old == new:
            return old, 0
        changed = 0
        for table, column in ADDRESSES:
            statement = (
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '/mlruns/%' "  # noqa: S608
                f"OR {column} = ? || '/mlruns'"
            )
            changed += database.execute(statement, (new, len(old) + 1, old, old)).rowcount
    return old, changed

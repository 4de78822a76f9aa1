"""Opening a sweep's study: an SQLite file, made when there is none, refused when it is of another search."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import UserError
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.study import Study

LOCK_SECONDS = 60

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def open_study(path: Path, definition: Definition, *, label: str, jobs: int) -> Iterator[Study]:
    """Give the study that the file at `path` holds, made when there is none.

    UserError if it is of another definition, or cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's hints are for who writes Python with it
        try:
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
            )
            found = optuna.create_study(storage=storage, study_name=label, direction="minimize", load_if_exists=True)
            _check_same(found, definition, label)
            yield Study(found, definition, label=label, jobs=jobs)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            said = " ".join(str(getattr(error, "orig", None) or error.__cause__ or error).split())
            raise UserError(f"{path.name}: the sweep's database cannot be used: {said}") from None


def _check_same(study: optuna.Study, definition: Definition, label: str) -> None:
    record = definition.record()
    kept = study.user_attrs.get("definition")
    if kept is None:
        study.set_user_attr("definition", record)
        return
    for part in ("search", "params"):
        for key in sorted(kept[part].keys() | record[part].keys()):
            old, new = kept[part].get(key), record[part].get(key)
            if old != new:
                raise UserError(
                    f"sweep {label}: {key}: found {_shown(new)}, started with {_shown(old)}; "
                    "allowed is the same search, or another --name"
                )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{key}: {part}" for key, part in value.items() if part is not None and part is not False)
            + "}"
        )
    return repr(value)

"""What DVC holds: experiments, and the files of any revision as a folder, from Git and DVC's cache (or its remote)."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError, one_line
from pipeline.lock import LOCK_FILE
from pipeline.tracking.git import git
from pipeline.tracking.records import STAGES

# DVC keeps an experiment as refs/exps/<2 digits of its baseline>/<the other 38>/<name>.
REFS = "refs/exps/??/*/*"


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment: its name, the commits it builds on and is, and when it was made (Unix seconds)."""

    name: str
    baseline: str
    commit: str
    made: float


def experiments() -> list[Experiment]:
    """Return the experiments that DVC holds here, whatever they build on, the oldest first."""
    form = "%(refname) %(objectname) %(committerdate:unix)"
    found = []
    for line in git("for-each-ref", f"--format={form}", REFS, "--sort=committerdate").splitlines():
        ref, commit, made = line.rsplit(" ", 2)
        _, _, two, rest, name = ref.split("/", 4)
        found.append(Experiment(name=name, baseline=f"{two}{rest}", commit=commit, made=float(made)))
    return found


@contextmanager
def snapshot(revision: str) -> Iterator[Path]:
    """Give a temporary folder with the small files, the splits and the model of `revision`, laid out as the project.

    `revision` is what DVC understands: an experiment's name, a commit, a branch. What DVC's cache and remote do not
    have is left out. UserError if there is no such revision.
    """
    from dvc.api import DVCFileSystem
    from dvc.scm import RevError, SCMError
    from dvc_data.index import DataIndexDirError

    with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        files = DVCFileSystem(rev=revision)
        for name in _names():
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.get(name, str(target), recursive=True)
            except (FileNotFoundError, DataIndexDirError, ImportError):  # the last: a remote's plugin is missing
                continue
            except RevError:
                raise UserError(f"{revision}: no such experiment or commit; `dvc exp list --all` names them") from None
            except SCMError as error:
                raise UserError(f"{revision}: {one_line(error)}") from None
        yield Path(temporary)


def _names() -> list[str]:
    names = ["params.yaml", str(LOCK_FILE), "dvc.yaml", "data/split/eval", "models/charlm", "plots/tutorial.csv"]
    for files in STAGES.values():
        names += [name for name in (files.metrics, files.curve, *files.artifacts) if name]
    # Data Docs are no output, so no revision has them.
    return [name for name in dict.fromkeys(names) if name != "reports/data_docs"]

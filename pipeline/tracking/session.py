"""A session: one execution of the pipeline, whose stages are separate processes.

They find each other by a small file under .charlm/sessions. It says which stages ran, for how long, what has been sent
to MLflow and to which run. Nothing here imports MLflow: light stages only leave their note.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.core.files import read_json, write_json
from pipeline.tracking.project import session_name, state_folder

KEPT = 200

# MLflow's own names for how a run is doing.
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass
class Session:
    """What is known of one execution. `seconds` has an entry for each stage that ran in it.

    `tags` are those that no file says, named by their stage as in `validate.drift`;
    `live_step` is the update up to which the training's curve has been sent while it ran, `registered` whether the
    registry has the model, `unsent` the folder in which is kept what MLflow could not be given.
    """

    key: str
    path: Path
    run_id: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    live_step: int = 0
    registered: bool = False
    unsent: str | None = None

    @classmethod
    def current(cls) -> "Session":
        """Return the session that this process belongs to, new if it is its first stage."""
        key = hashlib.sha256(session_name().encode()).hexdigest()[:16]
        path = state_folder() / "sessions" / f"{key}.json"
        _forget_old(path.parent)
        return cls.read(path) or cls(key=key, path=path)

    @classmethod
    def read(cls, path: Path) -> "Session | None":
        """Return the session in the file, None if there is none that can be read."""
        try:
            return cls(path=path, **read_json(path))
        except (OSError, ValueError, TypeError):
            return None

    def save(self) -> None:
        """Write the note."""
        content = asdict(self)
        del content["path"]
        write_json(self.path, content)

    def begin(self, stage: str) -> None:
        """Note that `stage` starts. A stage that this session's run already has starts a run of its own."""
        if stage in self.seconds and (stage in self.published or self.unsent):
            self.run_id, self.seconds, self.published, self.live_step = None, {}, [], 0
            self.registered, self.unsent, self.tags = False, None, {}
        self.published = [name for name in self.published if name != stage]
        self.tags = {name: value for name, value in self.tags.items() if not name.startswith(f"{stage}.")}


def _forget_old(folder: Path) -> None:
    notes = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in notes[:-KEPT]:
        path.unlink(missing_ok=True)

"""A session: one execution of the pipeline, whose stages are separate processes.

They find each other by a small file under .charlm/sessions. It says which stages ran, for how long, what has been sent
to MLflow and to which run. Nothing here imports MLflow: light stages only leave their note.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.files import read_json, write_json
from pipeline.tracking.project import session_name, state_folder

KEPT = 200


@dataclass
class Session:
    """What is known of one execution. `seconds` has an entry for each stage that ran in it.

    `live_step` is the update up to which the training's curve has been sent while it ran.
    """

    key: str
    run_id: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    live_step: int = 0

    @classmethod
    def current(cls) -> "Session":
        """Return the session that this process belongs to, new if it is its first stage."""
        key = hashlib.sha256(session_name().encode()).hexdigest()[:16]
        path = _folder() / f"{key}.json"
        try:
            return cls(**read_json(path))
        except (OSError, ValueError, TypeError):
            return cls(key=key)

    def save(self) -> None:
        """Write the note; only the latest KEPT ones stay."""
        write_json(_folder() / f"{self.key}.json", asdict(self))
        notes = sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in notes[:-KEPT]:
            path.unlink(missing_ok=True)

    def begin(self, stage: str) -> None:
        """Note that `stage` starts. A stage that this session's run already has starts a run of its own."""
        if stage in self.published and stage in self.seconds:
            self.run_id, self.seconds, self.published, self.live_step = None, {}, [], 0
        self.published = [name for name in self.published if name != stage]


def _folder() -> Path:
    return state_folder() / "sessions"

"""The context in which every stage script runs: one-line errors, times, and the stage's record in MLflow.

Loading MLflow takes seconds, so few stages do. `train` and `register` publish their records together with those of the
stages before them. `evaluate` and `generate` publish only if `register` will not follow; if `register` turns out to be
up to date, `summary` publishes what is missing. A stage that fails publishes at once.
(`validate` loads MLflow too if there may be a champion to compare with.)
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError, one_line
from pipeline.params.generation import registered_name
from pipeline.tracking.project import project_root, will_register
from pipeline.tracking.records import STAGES, metric_name, stages_before
from pipeline.tracking.session import Session, Status
from pipeline.tracking.settings import set_up_mlflow

if TYPE_CHECKING:
    from pipeline.tracking.execution import Execution


@dataclass(frozen=True)
class ChampionArtifact:
    """The text of a file of the champion's run, and the champion's version."""

    version: str
    text: str


def may_have_champion() -> bool:
    """Return whether a registry is named or lies here; without loading MLflow, which takes seconds."""
    named = os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_REGISTRY_URI")
    return bool(named) or (project_root() / "mlflow.db").exists()


def champion_artifact(artifact: str) -> ChampionArtifact | None:
    """Return an artifact of the run that made this text's champion; None without champion or artifact.

    Whatever MLflow raises is let through: a server may be away.
    """
    if not may_have_champion():
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
            return ChampionArtifact(str(champion.version), path.read_text(encoding="utf-8"))


VARIABLE = "CHARLM_CURVE"


def append_point(step: int, seconds: float, values: Mapping[str, float]) -> None:
    """Add a point to the file that CHARLM_CURVE names, if it names one; what cannot be written costs nothing."""
    if name := os.environ.get(VARIABLE):
        with suppress(OSError), Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "seconds": seconds, **values}) + "\n")


PUBLISHING = ("train", "evaluate", "generate", "register")
# Of these, the stages whose records can wait for `register`.
DEFERRED = ("evaluate", "generate")
# The input check: an execution that it refuses never started, so there is no run to mark.
INPUT_CHECK = "source"
REGISTER = "register"
INTERRUPTED = 130

# A point of a curve: step, seconds, values by name.
Point = tuple[int, float, Mapping[str, float]]


class StageRun:
    """One running stage."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self.session = session
        self.after_interrupt = ""

    def start_publishing(self) -> None:
        """Show the run in MLflow as running, with the stages before this one; a warning if that fails."""
        self._publish("RUNNING", with_stage=False)

    @contextmanager
    def live_curve(
        self, *, continues: str | None, known: Sequence[Point] = ()
    ) -> Iterator[Callable[[int, float, Mapping[str, float]], None]]:
        """Give a function that sends a point of the curve (step, seconds, values) to MLflow, without waiting for it.

        The points go to this session's run and to `continues`, the run of the execution that was cut short; that one
        has the points `known` from before already, this session's run gets them too. CHARLM_CURVE gets all of them.
        """
        from pipeline.tracking.live import live_curves  # loads MLflow

        own = self.session.run_id
        earlier = continues if continues != own else None
        with live_curves([run_id for run_id in (own, earlier) if run_id]) as curves:
            for step, seconds, values in known:
                append_point(step, seconds, values)
                for curve in curves[:1]:
                    curve.add(step, seconds, self._named(values))

            def add(step: int, seconds: float, values: Mapping[str, float]) -> None:
                append_point(step, seconds, values)
                for curve in curves:
                    curve.add(step, seconds, self._named(values))

            yield add
        for curve in curves:
            if curve.run_id == own:
                self.session.live_step = curve.sent_to_step
        if earlier:
            self._mark_continuation(earlier)

    def _named(self, values: Mapping[str, float]) -> dict[str, float]:
        return {metric_name(self.name, name): value for name, value in values.items()}

    def _mark_continuation(self, earlier: str) -> None:
        from pipeline.tracking.publish import mark_continuation  # loads MLflow

        try:
            mark_continuation(self.session, earlier)
        except Exception as problem:  # noqa: BLE001  the earlier run may be deleted, the server away
            _say(f"warning: MLflow's run {earlier} was not marked as continued: {_one_line(problem)}")

    def say(self, line: str) -> None:
        """Tell the person who watches."""
        _say(line)

    def tag(self, name: str, value: str) -> None:
        """Let the run have a tag about this stage that none of its files says."""
        self.session.tags[f"{self.name}.{name}"] = value

    def champion_artifact(self, path: Path) -> ChampionArtifact | None:
        """Return the file `path` of this stage as it was when the champion was made.

        None if there is no champion or it has no such file; with a warning, if MLflow is away.
        """
        try:
            return champion_artifact(f"{self.name}/{path.name}")
        except Exception as problem:  # noqa: BLE001  only a comparison is lost
            _say(f"warning: {self.name}: not compared with the champion ({_one_line(problem)})")
            return None

    def register(self, action: Callable[["Execution", str], str]) -> str | None:
        """Let `action` register the model of the execution, given too the id of its MLflow run; returns what it says.

        If that fails, as when MLflow is away, a warning: what is needed is kept, and `charlm sync` does it.
        """
        from pipeline.tracking.execution import execution_here
        from pipeline.tracking.publish import publish  # loads MLflow

        execution = execution_here()
        try:
            run_id = publish(execution, self.session, stages_before(self.name), status="RUNNING")
            said = action(execution, run_id)
        except Exception as problem:  # noqa: BLE001  whatever it is, `charlm sync` can register the model later
            _say(f"warning: the model is not registered ({_one_line(problem)}); `charlm sync` registers it later")
            return None
        self.session.registered = True
        self.session.save()
        return said

    def finish(self, seconds: float) -> None:
        """Store that the stage succeeded; publish it, unless a later stage will do that."""
        self.session.seconds[self.name] = round(seconds, 1)
        self.session.save()
        if self.name in PUBLISHING and not (self.name in DEFERRED and will_register()):
            self._publish("FINISHED", with_stage=True)

    def fail(self, error: str, *, killed: bool = False) -> None:
        """Mark the run as failed. Input that `source` refuses makes no run."""
        with suppress(UserError):  # params that cannot be read: the stage has said so, and no run could have them
            if self.name == INPUT_CHECK and self.session.run_id is None:
                return
            self._publish("KILLED" if killed else "FAILED", with_stage=False, error=error)

    def _publish(self, status: Status, *, with_stage: bool, error: str | None = None) -> None:
        from pipeline.tracking.execution import execution_here
        from pipeline.tracking.publish import publish  # loads MLflow
        from pipeline.tracking.settings import tracking_uri
        from pipeline.tracking.unsent_runs import forget_unsent, save_unsent

        execution = execution_here()
        # Also stages that ran here and deferred their records, as `evaluate` when `generate` fails.
        needed = {*stages_before(self.name), *self.session.seconds} - {self.name}
        stages = [name for name in STAGES if name in needed or (with_stage and name == self.name)]
        message = None if error is None else f"{self.name}: {error}"
        try:
            publish(execution, self.session, stages, status=status, error=message)
            if with_stage and self.name == REGISTER and not self.session.registered:
                save_unsent(
                    execution, self.session, stages, status=status, error=message, uri=tracking_uri(), now=time.time()
                )
            else:
                forget_unsent(self.session)
        except Exception as problem:  # noqa: BLE001  a tracking store in trouble must not cost a finished stage
            if status == "RUNNING":
                return  # nothing is lost: the end of the stage sends it all
            save_unsent(
                execution, self.session, stages, status=status, error=message, uri=tracking_uri(), now=time.time()
            )
            if error is None:  # a failed stage has said its one line already
                _say(
                    f"warning: MLflow got no record of {self.name} ({_one_line(problem)}); "
                    "it is kept, and `charlm sync` sends it"
                )


def publish_deferred() -> None:
    """Publish the records that waited for `register`, which did not run; called by the last stage, `summary`."""
    session = Session.current()
    waiting = {name for name in DEFERRED if name in session.seconds} - set(session.published)
    if waiting and session.unsent is None:
        set_up_mlflow()
        StageRun(REGISTER, session)._publish("FINISHED", with_stage=False)  # noqa: SLF001


@contextmanager
def stage(name: str) -> Iterator[StageRun]:
    """Run a stage's body. A UserError becomes one line on standard error, then its notes, and exit code 2."""
    set_up_mlflow()
    started = time.perf_counter()
    session = Session.current()
    session.begin(name)
    run = StageRun(name, session)
    try:
        yield run
    except UserError as error:
        _say(f"error: {_one_line(error)}")
        for note in getattr(error, "__notes__", []):
            _say(note)
        run.fail(_one_line(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say(f"{name}: interrupted{run.after_interrupt}")
        run.fail("interrupted", killed=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        run.fail(f"{type(error).__name__}: {_one_line(error)}")
        raise
    run.finish(time.perf_counter() - started)


def _one_line(error: Exception) -> str:
    return one_line(error).replace(f"{project_root()}{os.sep}", "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  messages of the stages

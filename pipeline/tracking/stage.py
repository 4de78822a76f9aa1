"""Runs the body of a stage script: prints errors as one line, measures the time, and sends the record to MLflow.

Loading MLflow takes seconds, so few stages do. `train` and `register` publish their records together with those of the
stages before them. `evaluate` and `generate` publish only if `register` will not follow; if `register` turns out to be
up to date, `summary` publishes what is missing. A stage that fails publishes at once.
(`validate` loads MLflow too if there may be a champion to compare with.)
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline.core.errors import DiskError, UserError, disk_problem, one_line
from pipeline.params.generation import registered_name
from pipeline.tracking.execution import Execution, Session, Status, delete_unsent, execution_here, save_unsent
from pipeline.tracking.project import project_root, will_register
from pipeline.tracking.records import STAGES, Point, metric_name, stages_before
from pipeline.tracking.store import open_store, set_up_mlflow

PUBLISHING = ("train", "evaluate", "generate", "register")
# The records of these stages can wait for `register`.
DEFERRED = ("evaluate", "generate")
# The input check: an execution that it refuses has not started, so there is no run to mark as failed.
INPUT_CHECK = "source"
REGISTER = "register"
# The exit code of an interrupted process.
INTERRUPTED = 130


@dataclass(frozen=True)
class ChampionArtifact:
    """The champion's version, and the text of a file of the run that made it."""

    version: str
    text: str


def may_have_champion() -> bool:
    """Return whether there is a local registry, or an address of one; does not load MLflow, which takes seconds."""
    address = os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_REGISTRY_URI")
    return bool(address) or (project_root() / "mlflow.db").exists()


def champion_artifact(artifact: str) -> ChampionArtifact | None:
    """Return an artifact of the run that made this text's champion; None without champion or artifact.

    Errors of MLflow are passed on, as when the server is unreachable.
    """
    if not may_have_champion():
        return None
    from pipeline.tracking.registry import champion_version  # loads MLflow

    name = registered_name()
    with open_store() as (client, _):
        champion = champion_version(client, name)
        folder = artifact.rpartition("/")[0]
        if champion is None or not any(one.path == artifact for one in client.list_artifacts(champion.run_id, folder)):
            return None
        with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
            path = Path(client.download_artifacts(champion.run_id, artifact, temporary))
            return ChampionArtifact(str(champion.version), path.read_text(encoding="utf-8"))


class StageRun:
    """One running stage."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self.session = session
        self.after_interrupt = ""

    def start_publishing(self) -> None:
        """Show the run in MLflow as running, with the records of the stages before this one."""
        self._publish("RUNNING", with_stage=False)

    @contextmanager
    def live_curve(
        self, *, continues: str | None, known: Sequence[Point] = ()
    ) -> Iterator[Callable[[int, float, Mapping[str, float]], None]]:
        """Give a function that sends a point of the curve (step, seconds, values) to MLflow, without waiting for it.

        The points go to this session's run and to `continues`, the run whose interrupted training is resumed. That run
        already has the points `known`; this session's run gets them too.
        """
        from pipeline.tracking.publish import live_curves  # loads MLflow

        own = self.session.run_id
        earlier = continues if continues != own else None
        with live_curves([run_id for run_id in (own, earlier) if run_id]) as curves:
            for step, seconds, values in known:
                for curve in curves[:1]:
                    curve.add(step, seconds, self._named(values))

            def add(step: int, seconds: float, values: Mapping[str, float]) -> None:
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
        except Exception as problem:  # noqa: BLE001  the earlier run may be deleted, or the server unreachable
            _say(f"warning: MLflow's run {earlier} was not marked as continued: {_one_line(problem)}")

    def say(self, line: str) -> None:
        """Print a message to standard error."""
        _say(line)

    def tag(self, name: str, value: str) -> None:
        """Give the run a tag about this stage, for what is in none of its files."""
        self.session.tags[f"{self.name}.{name}"] = value

    def champion_artifact(self, path: Path) -> ChampionArtifact | None:
        """Return this stage's file `path` from the champion's run.

        None if there is no champion or no such file; None and a warning if MLflow fails.
        """
        try:
            return champion_artifact(f"{self.name}/{path.name}")
        except Exception as problem:  # noqa: BLE001  only a comparison is lost
            _say(f"warning: {self.name}: not compared with the champion ({_one_line(problem)})")
            return None

    def register(self, action: Callable[["Execution", str], str]) -> str | None:
        """Publish the stages before this one, then let `action` register the model of the execution.

        `action` gets the execution and the id of its MLflow run. Returns the message of `action`; None, with a warning,
        if MLflow fails: `charlm sync` registers the model later.
        """
        from pipeline.tracking.publish import publish  # loads MLflow

        execution = execution_here()
        try:
            run_id = publish(execution, self.session, stages_before(self.name), status="RUNNING")
            message = action(execution, run_id)
        except Exception as problem:  # noqa: BLE001  whatever it is, `charlm sync` can register the model later
            _say(f"warning: the model is not registered ({_one_line(problem)}); `charlm sync` registers it later")
            return None
        self.session.registered = True
        self.session.save()
        return message

    def finish(self, seconds: float) -> None:
        """Save that the stage succeeded, and publish it unless a later stage will do that."""
        self.session.seconds[self.name] = round(seconds, 1)
        self.session.save()
        if self.name in PUBLISHING and not (self.name in DEFERRED and will_register()):
            self._publish("FINISHED", with_stage=True)

    def fail(self, error: str, *, killed: bool = False) -> None:
        """Mark the run as failed. There is none if `source` refused the input."""
        # Unreadable params, or a disk that is full: the stage has already reported them.
        with suppress(UserError, OSError):
            if self.name == INPUT_CHECK and self.session.run_id is None:
                return
            self._publish("KILLED" if killed else "FAILED", with_stage=False, error=error)

    def _publish(self, status: Status, *, with_stage: bool, error: str | None = None) -> None:
        from pipeline.tracking.publish import publish  # loads MLflow

        execution = execution_here()
        # Also stages that ran here and whose records wait, such as `evaluate` if `generate` fails.
        needed = {*stages_before(self.name), *self.session.seconds} - {self.name}
        stages = [name for name in STAGES if name in needed or (with_stage and name == self.name)]
        message = None if error is None else f"{self.name}: {error}"
        try:
            publish(execution, self.session, stages, status=status, error=message)
            if with_stage and self.name == REGISTER and not self.session.registered:
                save_unsent(execution, self.session, stages, status=status, error=message, now=time.time())
            else:
                delete_unsent(self.session)
        except Exception as problem:  # noqa: BLE001  a broken store must not fail a finished stage
            if status == "RUNNING":
                return  # nothing is lost: the end of the stage sends all of it
            try:
                save_unsent(execution, self.session, stages, status=status, error=message, now=time.time())
            except DiskError as full:
                raise DiskError(f"MLflow got no record of {self.name}, and it cannot be saved: {full}") from None
            if error is None:  # a failed stage has already printed its one line
                _say(
                    f"warning: MLflow got no record of {self.name} ({_one_line(problem)}); "
                    "it is saved, and `charlm sync` sends it"
                )


def publish_deferred() -> None:
    """Publish the records that waited for `register`, if it did not run; `summary`, the last stage, calls this."""
    session = Session.current()
    waiting = {name for name in DEFERRED if name in session.seconds} - set(session.published)
    if waiting and session.unsent is None:
        set_up_mlflow()
        StageRun(REGISTER, session)._publish("FINISHED", with_stage=False)  # noqa: SLF001


@contextmanager
def stage(name: str) -> Iterator[StageRun]:
    """Run a stage's body. A UserError is printed as one line on standard error, with its notes; exit code 2."""
    set_up_mlflow()
    started = time.perf_counter()
    session = Session.current()
    session.begin(name)
    run = StageRun(name, session)
    try:
        yield run
        run.finish(time.perf_counter() - started)
    except UserError as error:
        _end_with(run, _one_line(error), getattr(error, "__notes__", []))
    except KeyboardInterrupt:
        _say(f"{name}: interrupted{run.after_interrupt}")
        run.fail("interrupted", killed=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if problem := disk_problem(error, folder=str(project_root())):
            _end_with(run, problem, [])
        run.fail(f"{type(error).__name__}: {_one_line(error)}")
        raise


def _end_with(run: StageRun, message: str, notes: Sequence[str]) -> NoReturn:
    """Report an error in one line, with its notes, mark the run as failed, and end the process."""
    _say(f"error: {message}")
    for note in notes:
        _say(note)
    run.fail(message)
    sys.exit(UserError.exit_code)


def _one_line(error: Exception) -> str:
    folder = str(project_root())
    problem = None if isinstance(error, UserError) else disk_problem(error, folder=folder)
    return problem or one_line(error).replace(f"{folder}{os.sep}", "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  messages of the stages

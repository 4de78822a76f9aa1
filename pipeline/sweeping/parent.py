"""A sweep's own MLflow run: its trials are shown under it, and its note holds the leaderboard.

A tracking store in trouble is told once and then left alone: the sweep needs none.
"""

from collections.abc import Callable

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage

from pipeline.core.errors import one_line
from pipeline.tracking.execution import PARENT_TAG, PARENT_VARIABLE
from pipeline.tracking.store import open_store


class ParentRun:
    """The run of sweep `label`; `run_id` is that of an earlier start of the sweep, which is gone on with."""

    def __init__(self, label: str, run_id: str | None, *, warn: Callable[[str], None]) -> None:
        self.label = label
        self.run_id = run_id
        self._warn = warn
        self._works = True

    def environment(self) -> dict[str, str]:
        """Return what the trials must have in their environment to be shown under this run."""
        return {PARENT_VARIABLE: self.run_id} if self.run_id else {}

    def open(self) -> None:
        """Show the run as running; it is made if there is none."""

        def open_or_make(client: MlflowClient, experiment_id: str) -> None:
            kept = client.search_runs([experiment_id], f"tags.`charlm.sweep` = '{self.label}'")
            if self.run_id in {run.info.run_id for run in kept if run.info.lifecycle_stage == LifecycleStage.ACTIVE}:
                client.update_run(self.run_id, status="RUNNING")
                return
            tags = {"charlm.sweep": self.label, "mlflow.source.name": "charlm sweep"}
            self.run_id = str(client.create_run(experiment_id, run_name=self.label, tags=tags).info.run_id)

        self._do(open_or_make)

    def update(self, note: str, best: float | None, *, step: int) -> None:
        """Replace the note (Markdown), and log the best perplexity so far, if there is one."""

        def write(client: MlflowClient, _: str) -> None:
            client.set_tag(self.run_id, "mlflow.note.content", note)
            if best is not None:
                client.log_metric(self.run_id, "sweep/best_perplexity", best, step=step)

        self._do(write)

    def mark_killed(self, name: str, *, pruned: bool) -> None:
        """Mark the run of experiment `name` as stopped: by the sweep if `pruned`, else with its processes."""

        def mark(client: MlflowClient, experiment_id: str) -> None:
            wanted = f"tags.`dvc.experiment` = '{name}' and tags.`{PARENT_TAG}` = '{self.run_id}'"
            for run in client.search_runs([experiment_id], wanted):
                if pruned:
                    client.set_tag(run.info.run_id, "charlm.pruned", "true")
                client.set_terminated(run.info.run_id, status="KILLED")

        self._do(mark)

    def end(self, status: str) -> None:
        """End the run."""
        self._do(lambda client, _: client.set_terminated(self.run_id, status=status))

    def _do(self, action: Callable[[MlflowClient, str], None]) -> None:
        if not self._works:
            return
        try:
            with open_store() as (client, experiment_id):
                action(client, experiment_id)
        except Exception as problem:  # noqa: BLE001  whatever it is, the sweep goes on
            self._works = False
            self._warn(f"warning: MLflow does not take the sweep's run: {one_line(problem)}")

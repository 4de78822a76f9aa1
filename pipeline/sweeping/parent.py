"""The MLflow run of a sweep: the parent of its trials' runs; its description contains the leaderboard.

If MLflow fails, that is reported once and then ignored, since the sweep can do without it.
"""

from collections.abc import Callable

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage

from pipeline.core.errors import one_line
from pipeline.tracking.execution import PARENT_TAG, PARENT_VARIABLE
from pipeline.tracking.store import open_store


class ParentRun:
    """The run of sweep `label`; `run_id` is the run to resume, if the sweep was started before."""

    def __init__(self, label: str, run_id: str | None, *, warn: Callable[[str], None]) -> None:
        self.label = label
        self.run_id = run_id
        self._warn = warn
        self._works = True

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make this run the parent of the trials' runs."""
        return {PARENT_VARIABLE: self.run_id} if self.run_id else {}

    def open(self) -> None:
        """Set the run's status to running; creates the run if there is none."""

        def open_or_create(client: MlflowClient, experiment_id: str) -> None:
            found = client.search_runs([experiment_id], f"tags.`charlm.sweep` = '{self.label}'")
            if self.run_id in {run.info.run_id for run in found if run.info.lifecycle_stage == LifecycleStage.ACTIVE}:
                client.update_run(self.run_id, status="RUNNING")
                return
            tags = {"charlm.sweep": self.label, "mlflow.source.name": "charlm sweep"}
            self.run_id = str(client.create_run(experiment_id, run_name=self.label, tags=tags).info.run_id)

        self._do(open_or_create)

    def update(self, note: str, best: float | None, *, step: int) -> None:
        """Replace the description (Markdown), and log the best perplexity so far, if there is one."""

        def write(client: MlflowClient, _: str) -> None:
            client.set_tag(self.run_id, "mlflow.note.content", note)
            if best is not None:
                client.log_metric(self.run_id, "sweep/best_perplexity", best, step=step)

        self._do(write)

    def mark_killed(self, name: str, *, pruned: bool) -> None:
        """Set the run of experiment `name` to killed, and tag it if the sweep has pruned it."""

        def mark(client: MlflowClient, experiment_id: str) -> None:
            wanted = f"tags.`dvc.experiment` = '{name}' and tags.`{PARENT_TAG}` = '{self.run_id}'"
            for run in client.search_runs([experiment_id], wanted):
                if pruned:
                    client.set_tag(run.info.run_id, "charlm.pruned", "true")
                client.set_terminated(run.info.run_id, status="KILLED")

        self._do(mark)

    def end(self, status: str) -> None:
        """End the run with an MLflow status."""
        self._do(lambda client, _: client.set_terminated(self.run_id, status=status))

    def _do(self, action: Callable[[MlflowClient, str], None]) -> None:
        if not self._works:
            return
        try:
            with open_store() as (client, experiment_id):
                action(client, experiment_id)
        except Exception as error:  # noqa: BLE001  whatever it is, the sweep continues
            self._works = False
            self._warn(f"warning: MLflow does not accept the sweep's run: {one_line(error)}")

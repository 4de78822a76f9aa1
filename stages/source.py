"""source: validates all of params.yaml and every source file before any other stage runs, and identifies the source.

Always runs. It checks the params of all stages, so that a wrong key or value stops the pipeline in the first second. It
copies the model of `train.start_from` to where DVC sees whether it changed.
"""

from pathlib import Path
from typing import cast

import typer

from pipeline.core.files import FOLDERS, SOURCE, START, remove_leftovers, write_json
from pipeline.params.groups import GROUPS
from pipeline.params.reader import read_groups
from pipeline.params.text import DataParams
from pipeline.params.training import ModelParams, TrainParams
from pipeline.reporting.plots_page import install_plots_page
from pipeline.sources.describe import describe
from pipeline.tracking.progress import throughput
from pipeline.tracking.project import project_root, state_folder
from pipeline.tracking.refused_options import undo_options_if_refused
from pipeline.tracking.stage import stage
from pipeline.tracking.store import REGISTRY, check_store
from pipeline.training.start_model import KEY, copy_start_model, load_start_model


def main() -> None:
    with stage("source"):
        install_plots_page(project_root() / ".dvc")
        check_store()
        # A killed stage that DVC's run cache restores does not run again, so it cannot remove them itself.
        for folder in FOLDERS:
            remove_leftovers(folder)
        with undo_options_if_refused():
            groups = read_groups(GROUPS)
            start = find_start(cast("TrainParams", groups["train"]), cast("ModelParams", groups["model"]))
            with throughput("source", None) as advance:
                description = describe(
                    cast("DataParams", groups["data"]),
                    root=project_root(),
                    cache=state_folder() / "downloads",
                    progress=advance,
                )
        write_json(SOURCE, description)
        copy_start_model(start, START)


def find_start(train: TrainParams, model: ModelParams) -> Path | None:
    """Return the folder of the model to start from, loaded once to see that it is whole and fits; None without one."""
    address = train.start_from
    if address is None:
        return None
    if address.startswith(REGISTRY):
        from pipeline.tracking.registry import from_registry  # loads MLflow

        folder, _ = from_registry(address, option=KEY)
    else:
        folder = project_root() / address
    load_start_model(folder, model, address=address, root=project_root())
    return folder


if __name__ == "__main__":
    typer.run(main)

"""source: validates all of params.yaml and every source file before any other stage runs, and identifies the source.

Always runs. It checks the params of all stages, so that a wrong key or value stops the pipeline in the first second.
"""

from typing import cast

import typer

from pipeline.core.files import SOURCE, write_json
from pipeline.params.groups import GROUPS
from pipeline.params.reader import read_groups
from pipeline.params.text import DataParams
from pipeline.reporting.plots_page import install_plots_page
from pipeline.sources.describe import describe
from pipeline.tracking.progress import throughput
from pipeline.tracking.project import project_root, state_folder
from pipeline.tracking.refused_options import undo_options_if_refused
from pipeline.tracking.stage import stage
from pipeline.tracking.store import check_server


def main() -> None:
    with stage("source"):
        install_plots_page(project_root() / ".dvc")
        check_server()
        with undo_options_if_refused():
            params = read_groups(GROUPS)["data"]
            with throughput("source", None) as advance:
                description = describe(
                    cast("DataParams", params),
                    root=project_root(),
                    cache=state_folder() / "downloads",
                    progress=advance,
                )
        write_json(SOURCE, description)


if __name__ == "__main__":
    typer.run(main)

"""The notebook examples/tour.ipynb: its stored outputs, and what it gives when it runs again."""

import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient
from support.projects import ROOT, Project

PATH = ROOT / "examples/tour.ipynb"


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(PATH, as_version=4)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the params of this one, in which nothing has run."""
    project = Project(tmp_path_factory.mktemp("charlm"))
    shutil.copy(ROOT / "params.yaml", project.folder / "params.yaml")
    project.commit("params")
    return project


@pytest.fixture(scope="module")
def executed(project, stored):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in project.environment().items():
            patch.setenv(name, value)
        notebook = nbformat.from_dict(stored)
        folder = {"metadata": {"path": str(project.folder / "examples")}}
        NotebookClient(notebook, timeout=900, coalesce_streams=True, resources=folder).execute()
    return notebook


def outputs(notebook):
    """Return the text that each code cell shows, joined to one."""
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in shown)


def output_of(notebook, source):
    """Return the text that the cell with `source` in it shows."""
    found = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    return outputs(nbformat.v4.new_notebook(cells=found))


def perplexities(notebook):
    """Return the perplexity of each experiment in the output of `charlm compare`."""
    rows = re.findall(r"^(tour\S*) +([\d.]+)", output_of(notebook, "charlm compare"), re.MULTILINE)
    return {name: float(perplexity) for name, perplexity in rows}


def test_the_stored_outputs_are_complete(stored):
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code[1:])
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


def test_the_stored_outputs_name_no_machine_and_no_person(stored):
    assert not re.search(r"/(home|root|tmp|Users|work|usr|opt)/|\x1b", nbformat.writes(stored))


@pytest.mark.end_to_end
@pytest.mark.slow
def test_running_the_tour_again_gives_the_stored_perplexities(stored, executed):
    assert list(perplexities(stored)) == ["tour", "tour-short"]
    # Kinds of processor differ by about 0.01 at a perplexity of 4.
    assert perplexities(executed) == pytest.approx(perplexities(stored), rel=0.02)


@pytest.mark.end_to_end
@pytest.mark.slow
def test_running_the_tour_again_registers_a_champion_and_a_challenger(executed):
    versions = output_of(executed, "charlm models")
    assert re.search(r"^ +1 +champion .* tour *$", versions, re.MULTILINE)
    assert re.search(r"^ +2 +challenger .* tour-short *$", versions, re.MULTILINE)


@pytest.mark.end_to_end
@pytest.mark.slow
def test_the_tour_generates_the_same_text_as_the_command(project, executed):
    options = ["--temperature", "0.6", "--num-chars", "200", "--seed", "7"]
    command = ["charlm", "generate", "The United States are", "--model", "models:/charlm@champion", *options]
    text = output_of(executed, "model.generate(").rstrip("\n")
    assert len(text) > 200
    assert text in project.run(*command)
    assert text.endswith(output_of(executed, "model.stream(").rstrip("\n"))


@pytest.mark.end_to_end
@pytest.mark.slow
def test_the_tour_leaves_the_workspace_as_it_was(project, executed):
    assert project.git("status", "--porcelain") == ""

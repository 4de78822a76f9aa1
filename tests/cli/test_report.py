import subprocess
import sys
import types
from contextlib import contextmanager

import pytest
from reporting.conftest import PARAMS, write_project
from support.fork_server import commands

from pipeline.cli.experiments import report
from pipeline.core.errors import UserError
from pipeline.tracking.differences import facts_here, facts_of
from pipeline.tracking.project import git_state


def git(*arguments, cwd):
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=cwd, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A finished pipeline in a repository, whose params were changed since the commit."""
    folder = write_project(tmp_path / "project")
    git("init", "-q", cwd=folder)
    (folder / "code.py").write_text("")
    git("add", "params.yaml", "code.py", cwd=folder)
    git("commit", "-q", "-m", "x", cwd=folder)
    (folder / "params.yaml").write_text(PARAMS.replace("epochs: 2", "epochs: 3"))
    monkeypatch.chdir(folder)
    git_state.cache_clear()
    yield folder
    git_state.cache_clear()


@pytest.fixture
def revisions(tmp_path, monkeypatch):
    """Folders that stand for the revisions of their names, in place of what DVC holds."""

    @contextmanager
    def snapshot(revision):
        if not (tmp_path / revision).exists():
            raise UserError(f"{revision}: no such experiment or commit")
        yield tmp_path / revision

    module = types.ModuleType("pipeline.tracking.records")
    module.snapshot = snapshot
    monkeypatch.setitem(sys.modules, "pipeline.tracking.records", module)
    return tmp_path


@pytest.fixture
def built(monkeypatch):
    """The projects that reports were built of; the pages themselves take seconds, and are tested elsewhere."""
    found = []
    monkeypatch.setattr("pipeline.reporting.report.build_report", lambda projects: found.append(projects) or "<html>")
    return found


def test_it_writes_the_page_and_says_where(here):
    done = subprocess.run([commands() / "charlm", "report"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"reports/report.html  {(here / 'reports/report.html').stat().st_size / 1e6:.1f} MB\n"
    html = (here / "reports/report.html").read_text()
    assert f"git checkout {git('rev-parse', 'HEAD', cwd=here)}" in html
    assert "dvc exp run -S train.epochs=3" in html


def test_without_results_it_is_one_line(tmp_path):
    done = subprocess.run([commands() / "charlm", "report"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "error: models/charlm: there is no model yet; run `make repro` or `dvc repro` first\n",
    )


def test_experiments_are_compared_with_the_workspace(here, revisions, built, capsys):
    write_project(revisions / "small")
    write_project(revisions / "large")
    report(compare=["small"], others=["large", "small"], output=here / "page.html")
    assert [project.name for project in built[0]] == ["workspace", "small", "large"]
    assert (here / "page.html").read_text() == "<html>"
    assert capsys.readouterr().out.endswith("page.html  0.0 MB\n")


def test_an_experiment_equal_to_the_workspace_is_shown_once(here, revisions, built):
    for folder in (here, write_project(revisions / "same")):
        (folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    report(compare=["same"], output=here / "page.html")
    assert [project.name for project in built[0]] == ["same"]


def test_an_experiment_without_results_or_unknown_is_an_error(here, revisions, built):
    (revisions / "failed").mkdir()
    with pytest.raises(UserError, match=r"^failed: evaluate\.json: not there yet"):
        report(compare=["failed"])
    with pytest.raises(UserError, match=r"^gone: no such experiment"):
        report(compare=["gone"])


def test_the_facts_of_the_workspace_are_its_commit_and_what_changed(here):
    facts = facts_here()
    assert facts["commit"] == git("rev-parse", "HEAD", cwd=here)
    assert facts["baseline"]["train.epochs"] == 2
    assert facts["changed_files"] == []
    (here / "code.py").write_text("changed")
    assert facts_here()["changed_files"] == ["code.py"]


def test_the_facts_of_an_experiment_are_those_of_its_baseline(here):
    baseline = git("rev-parse", "HEAD", cwd=here)
    (here / "code.py").write_text("changed")
    git("commit", "-q", "-am", "experiment", cwd=here)
    made = git("rev-parse", "HEAD", cwd=here)
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/bold-owl", made, cwd=here)
    facts = facts_of("bold-owl")
    assert (facts["commit"], facts["experiment"], facts["changed_files"]) == (baseline, "bold-owl", ["code.py"])
    assert facts["baseline"]["train.epochs"] == 2
    assert facts_of(made) == facts
    assert facts_of(baseline)["changed_files"] == []
    assert facts_of("nothing-of-that-name") == {}

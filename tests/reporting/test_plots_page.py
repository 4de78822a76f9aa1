"""`dvc plots show` in a real Chromium that reaches no server; skipped where there is no Chromium."""

import os
import shutil
import subprocess

import pytest
from support.browser import NEEDS_CHROMIUM
from support.projects import ROOT

from pipeline.reporting.plots_page import PAGE, install_plots_page

CURVE = """step,epoch,seconds,train_perplexity,eval_perplexity,learning_rate
1,0.5,1,9.5,,0.1
2,1.0,2,8.5,8.1,0.05
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A project whose plots `dvc plots show` has written, with an experiment of two curve points and one evaluation."""
    folder = tmp_path_factory.mktemp("plots")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvc/.gitignore", ".dvc/config", ".dvc/plots/curve.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "plots", folder / "plots")
    (folder / "plots/train.csv").write_text(CURVE)
    assert install_plots_page(folder / ".dvc")
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    done = subprocess.run(["dvc", "plots", "show"], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_page_is_built_once_and_git_ignores_it_and_dvcs_output(shown):
    assert not install_plots_page(shown / ".dvc")
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=shown, capture_output=True, text=True
    )
    assert "??" not in status.stdout
    assert (shown / "dvc_plots/index.html").exists()


def test_the_users_own_page_stays(tmp_path):
    (tmp_path / "config").write_text("")
    (tmp_path / "config.local").write_text("[plots]\n    html_template = mine.html\n")
    install_plots_page(tmp_path)
    assert (tmp_path / PAGE).exists()
    assert "mine.html" in (tmp_path / "config.local").read_text()
    assert PAGE not in (tmp_path / "config.local").read_text()


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_every_plot_is_drawn_without_a_network(shown, browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((shown / "dvc_plots/index.html").as_uri())
    page.wait_for_selector("canvas, svg.marks")
    page.wait_for_timeout(1000)
    drawn = page.locator("canvas, svg.marks").count()
    widths = page.evaluate("[...document.querySelectorAll('canvas, svg.marks')].map(one => one.clientWidth)")
    context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    # Perplexity, learning rate, position, characters, mistakes; the tutorial's curve may be empty.
    assert drawn >= 5
    assert min(sorted(widths)[-5:]) > 200

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.projects import ROOT

from pipeline.cli.models import _table, print_whole

NAME = "an-experiment-of-25-chars"


def version(number, alias, window=100):
    tags = {"perplexity": "3.5821", "data.source": "obama.txt", "eval_sha256": "a" * 64, "dvc.experiment": NAME}
    if window is not None:
        tags["measurement"] = json.dumps({"window": window})
    return SimpleNamespace(version=number, aliases=[alias], tags=tags, creation_timestamp=0)


@pytest.mark.parametrize("columns", ["40", "60", "80", "200"])
def test_nothing_is_cut_in_a_pipe_or_a_narrow_window(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    print_whole(_table("charlm", [version(12, "challenger"), version(3, "champion")]))
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    assert lines[1].split() == ["version", "alias", "perplexity", "text", "eval", "text", "made", "experiment"]
    assert lines[2].split()[:3] == ["12", "challenger", "3.5821"]
    assert lines[2].rstrip().endswith(NAME)
    assert max(map(len, lines)) <= 100


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_nothing_is_cut_in_a_narrow_terminal():
    code = (
        "import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', "
        '\'import test_models as t; t.print_whole(t._table("charlm", [t.version(12, "challenger")]))\']) >> 8)'
    )
    places = os.pathsep.join(str(ROOT / name) for name in (".", "tests", "tests/cli"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": places, "COLUMNS": "60", "TERM": "xterm"},
    )
    assert done.returncode == 0, done.stdout
    assert NAME in done.stdout
    assert "…" not in done.stdout


@pytest.mark.parametrize("window", [400, None])
def test_figures_that_were_measured_otherwise_are_marked(window, capsys):
    print_whole(_table("charlm", [version(2, "challenger", window), version(1, "champion")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[2] == "3.5821*"
    assert lines[3].split()[2] == "3.5821"
    assert "not comparable with it" in lines[4]

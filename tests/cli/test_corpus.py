import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.params.reader import flatten, read_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def corpus(folder, *arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.app", "corpus", *arguments],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)},
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    return done.stdout if expect == 0 else done.stderr


def test_what_a_source_holds_and_which_params_suit_it(folder):
    text = "Все счастливые семьи похожи друг на друга.\nСовсем.\n" * 50
    (folder / "book one.txt").write_text(text, encoding="utf-16")
    said = corpus(folder, "book one.txt", "-S", "data.encoding=auto")
    for part in ("characters", f"{len(text):,}", "lines", "100, the longest of 42", "Cyrillic", "an epoch takes"):
        assert part in said, part
    command = said.strip().splitlines()[-1]
    assert command.startswith(
        "dvc exp run -S 'data.source=book one.txt' -S data.encoding=auto -S clean.charset=unicode"
    )
    keys = flatten(read_yaml(ROOT / "params.yaml"))
    assert {option.partition("=")[0] for option in shlex.split(command)[4::2]} <= set(keys)


def test_the_figures_for_a_program(folder):
    (folder / "rows.csv").write_text('tweet,year\n"one, two",2001\n"one, two",2002\nthree,2003\n')
    said = json.loads(corpus(folder, "rows.csv", "-S", "data.text_column=tweet", "--json", "--no-time"))
    assert (said["documents"], said["characters"], said["duplicates"], said["duplicate_characters"]) == (3, 21, 1, 8)
    assert said["alphabet"][0] == "e"
    assert said["epoch_seconds"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gone.txt"], "error: data.source: no such file or folder"),
        (["text.txt", "-S", "clean.charset=unicode"], "error: -S clean.charset=unicode: allowed are keys of data"),
        (["text.txt", "-S", "data.encodin=latin-1"], "data.encodin: unknown key; did you mean encoding?"),
        (["empty.txt"], "empty"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(folder, arguments, told):
    (folder / "text.txt").write_text("text")
    (folder / "empty.txt").write_text("")
    said = corpus(folder, *arguments, expect=2)
    assert told in said
    assert len(said.splitlines()) == 1


def test_names_with_brackets_are_shown_as_they_are(folder):
    rows = [{"id": "[/bold] a", "text": "words " * 9}, {"id": "[red]b", "text": "words"}]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "in [/bold] a" in corpus(folder, "a.jsonl", "--no-time", "-S", "data.id_column=id")

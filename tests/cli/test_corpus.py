import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from support.fork_server import commands
from support.speeches import speeches, wrapped

from pipeline.cli.corpus import _range
from pipeline.params.reader import flatten, read_yaml

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def corpus(folder, *arguments, expect=0):
    done = subprocess.run(
        [commands() / "charlm", "corpus", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)},
    )
    assert done.returncode == expect, done.stderr
    return done.stdout if expect == 0 else done.stderr


def test_it_shows_the_source_and_suggests_params(folder):
    text = "Все счастливые семьи похожи друг на друга.\nСовсем.\n" * 50
    (folder / "book one.txt").write_text(text, encoding="utf-16")
    said = corpus(folder, "book one.txt", "-S", "data.encoding=auto")
    for part in (
        "characters",
        f"{len(text):,}",
        "lines",
        "100, the longest of 42",
        "Cyrillic",
        "the split",
        "overlap",
        "an epoch takes",
    ):
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
    assert said["separators"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.txt"], "error: data.source: no such file or folder"),
        (
            ["text.txt", "-S", "generate.seed=1"],
            "error: -S generate.seed=1: generate.seed changes nothing here; allowed",
        ),
        (["text.txt", "-S", "model.num_hiden=1"], "unknown key model.num_hiden; did you mean model.num_hidden?"),
        (["text.txt", "-S", "data.encodin=latin-1"], "unknown key data.encodin; did you mean data.encoding?"),
        (["text.txt", "-S", "model.num_hidden=0"], "error: -S: model.num_hidden: found 0, allowed is greater than or"),
        (["rows.csv"], "rows.csv has no column 'text'; allowed are id, body (separated by a semicolon)"),
        (["empty.txt"], "empty"),
    ],
)
def test_errors_are_one_line(folder, arguments, message):
    (folder / "text.txt").write_text("text")
    (folder / "empty.txt").write_text("")
    (folder / "rows.csv").write_text("id;body\n1;x, y, z\n")
    said = corpus(folder, *arguments, expect=2)
    assert message in said
    assert len(said.splitlines()) == 1


def test_the_separator_of_a_csv_is_found_and_shown(folder):
    (folder / "rows.csv").write_text('id;text\n1;"one; two, three"\n2;four, five\n')
    assert "separated by        semicolons" in corpus(folder, "rows.csv", "--no-time")
    figures = json.loads(corpus(folder, "rows.csv", "--no-time", "--json"))
    assert figures["separators"] == {"rows.csv": ";"}
    assert (figures["documents"], figures["characters"]) == (2, 25)


def test_both_ends_of_an_epochs_time_are_for_a_program_and_the_params_matter(folder):
    (folder / "speech.txt").write_text(wrapped(speeches(words=2000)))
    small = ["-S", "model.num_hidden=8", "-S", "model.num_embed=4", "-S", "train.batch_size=64"]
    figures = json.loads(corpus(folder, "speech.txt", "--json", *small))
    assert 0 < figures["epoch_seconds"]["low"] <= figures["epoch_seconds"]["high"]
    assert figures["split_characters"].keys() == {"train", "eval"}
    assert 0.01 < figures["overlap"]["eval"] < 0.5
    assert figures["problem"] is None
    assert not list((folder / ".charlm").glob("corpus-*"))


def test_a_text_without_a_split_that_passes_says_so(folder):
    (folder / "again.txt").write_text("Over and over, the same words follow one another in this very text.\n" * 200)
    shown = corpus(folder, "again.txt", "--no-time")
    assert "no split was found that passes: 100.0% of the eval text occurs in the training text" in shown.replace(
        "\n", " "
    )


def test_names_with_brackets_are_shown_as_they_are(folder):
    rows = [{"id": "[/bold] a", "text": "words " * 9}, {"id": "[red]b", "text": "words"}]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "in [/bold] a" in corpus(folder, "a.jsonl", "--no-time", "-S", "data.id_column=id")


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (31.2, 44.8, "31 to 45 s"),
        (0.31, 0.42, "0.3 to 0.4 s"),
        (120.0, 181.0, "2 to 3 min"),
        (118.0, 122.0, "about 2 min"),
        (100.0, 130.0, "about 2 min"),
        (5000.0, 9000.0, "1 to 2 h"),
        (9000.0, 14000.0, "2 to 4 h"),
    ],
)
def test_a_range_is_in_one_unit(low, high, shown):
    assert _range(low, high) == shown

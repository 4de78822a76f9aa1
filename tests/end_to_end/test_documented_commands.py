"""Types every command of the README and of docs/, on a stand-in text, and checks what it promises."""

import gzip
import json
import random
import re

import pytest
from support.commands import ROOT, documented_commands
from support.projects import Project

# Commands that need something which is not here, or that another test runs. Each line says which.
ELSEWHERE = {
    r"make (repro|test.*|check)|pytest .*": ".ci/run",
    r"charlm serve.*|CHARLM_API_KEY=.*|curl .*|python -c .*charlm\.key.*": "tests/cli/test_serve.py, operations page",
    r"mlflow ui": "tests/tracking/test_view.py",
    r"mlflow models serve.*": "test_end_to_end.py, which also sends the documented request",
    r"mlflow (server|gc|models build-docker).*|createdb .*|export MLFLOW_.*": "test_team.py; Docker is not here",
    r"pip install .*|pre-commit .*": "installs packages",
    r"dvc remote add .*|git (push|pull).*|dvc (push|pull).*|dvc exp (push|pull).*": "test_lineage.py: a second clone",
    r"dvc exp run --queue .*|dvc queue .*": "test_end_to_end.py: the queue",
    r"charlm sweep .*": "test_sweep.py",
    r"(cp .* base|dvc exp run .*(charlm preset (base|tune)|train.start_from=base).*)": "test_start_from.py",
    r"python -m benchmarks\.(training|generation|serving|corpus|ngram)": "minutes each; the last test compiles them",
    r"python -m (stages|pipeline\.params)\..*": "dvc repro runs the stages, test_reference.py the table",
    r"charlm generate --interactive": "tests/cli/test_cli.py",
}
# Without their arguments these name a command rather than ask for one to be typed.
NAMES = re.compile(
    r"dvc exp (run|run -S|run --temp|run -n NAME|apply|pull)|charlm (new SOURCE|promote|promote VERSION|trace|verify"
    r"|score|report --compare|sweep|generate|corpus SOURCE)"
)
# What stands for an experiment or a version in the pages is one that the project below has.
STAND_INS = {
    "NAME": "earlier",
    "compare wider": "compare earlier",
    **{f"{command} 3": f"{command} 2" for command in ("promote", "trace", "verify")},
}
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "our",
    "people",
    "nation",
    "must",
    "will",
    "work",
    "great",
    "america",
    "congress",
    "we",
    "are",
    "with",
    "that",
    "freedom",
    "world",
    "year",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the texts that the pages name."""
    project = Project(tmp_path_factory.mktemp("charlm"))
    folder = project.folder
    text = speech(30_000)
    # Wrapped at a fixed width, also within words, as the tutorial's corpus is.
    (folder / "obama.txt").write_text("\n".join(text[at : at + 129] for at in range(0, len(text), 129)))
    (folder / "my.txt").write_text(speech(12_000, seed=1))
    (folder / "book.txt").write_text(speech(12_000, seed=2))
    for name in ("notes", "my/texts"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            (folder / name / f"{number}.txt").write_text(speech(4_000, seed=10 + number))
    rows = [f'{n},"{speech(200, seed=n)}",{1990 + n % 30},someone' for n in range(100, 220)]
    (folder / "reviews.csv").write_text("\n".join(["id,body,year,author", *rows]) + "\n")
    (folder / "reviews.csv.gz").write_bytes(gzip.compress((folder / "reviews.csv").read_bytes()))
    tweets = "\n".join(["id,tweet", *(f'{n},"{speech(100, seed=n)}"' for n in range(300, 400))])
    (folder / "tweets.csv").write_text(tweets)
    with (folder / ".gitignore").open("a") as file:
        file.write("\n/obama.txt\n/my.txt\n/book.txt\n/notes\n/my\n/reviews.csv*\n/tweets.csv\n")
    project.commit("texts")
    shell(project, "dvc repro")
    project.commit("first run")
    shell(project, "dvc exp run -q -n earlier -S model.num_hidden=12 -S train.epochs=2")
    shell(project, "git checkout -q . && dvc checkout -q")
    return project


def speech(length, seed=0):
    """Sentences of a few words that repeat some phrases, as speeches do; the same for the same seed."""
    chosen, text = random.Random(seed), ""
    while len(text) < length:
        words = [chosen.choice(WORDS) + chosen.choice(["", "", "s", "ed"]) for _ in range(chosen.randint(4, 14))]
        text += "The United States are one people and one nation. " if chosen.random() < 0.05 else ""
        text += " ".join(words).capitalize() + chosen.choice([". ", ".\n", "! "])
    return text[:length]


def shell(project, command, expect=0):
    return project.run("bash", "-c", command, expect=expect, COLUMNS="100", DVC_NO_ANALYTICS="true")


def commands():
    return [
        one
        for one in documented_commands()
        if not NAMES.fullmatch(one.text) and not any(re.fullmatch(rule, one.text, re.DOTALL) for rule in ELSEWHERE)
    ]


def reset(project):
    shell(project, "git checkout -q . && dvc checkout -q")


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=lambda one: f"{one.page}: {one.text}")
def test_a_documented_command_works(project, command):
    text = command.text
    for name, stand_in in STAND_INS.items():
        text = text.replace(name, stand_in)
    if "promote 2" in text:  # the wider model may be the champion already
        shell(project, "charlm promote 1 --force")
        text += " --force"
    if text == "charlm rollback":
        shell(project, "charlm promote 1 --force || charlm promote 2 --force")
    if "split.by=column" in text:  # of a table that has the column
        text += " -S data.source=reviews.csv -S data.text_column=body -S 'data.metadata=[year]'"
    try:
        check(project, text)
    finally:
        reset(project)


def check(project, text):
    """Run the command `text` and check what the pages promise of commands of its kind."""
    before = (project.folder / "params.yaml").read_bytes()
    output = shell(project, text)
    assert "Traceback" not in output
    if text.startswith(("dvc exp run", "dvc repro")) or (text.startswith("charlm new") and "--dry-run" not in text):
        # Every run ends with the summary.
        assert re.search(r"^perplexity +\d", output, re.MULTILINE), output[-3000:]
        assert "what next" in output
    if "--temp" in text or "--dry-run" in text or text.startswith(("charlm corpus", "charlm compare", "charlm report")):
        assert (project.folder / "params.yaml").read_bytes() == before
    if "--json" in text:
        assert json.loads(output)
    if text.startswith("charlm corpus"):
        assert "dvc exp run" in output
        assert "overlap" in output
    if text.startswith("charlm new"):
        assert "git checkout params.yaml" in output or "--dry-run" in text
    if text.startswith("charlm generate"):
        assert "model: models/charlm" in output


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_changed_param_is_named_and_can_be_undone(project):
    before = (project.folder / "params.yaml").read_text()
    output = shell(project, "dvc exp run -S model.num_hidden=128")
    assert "model.num_hidden 8 → 128" in output
    assert "git checkout params.yaml" in output
    shell(project, "git checkout params.yaml")
    assert (project.folder / "params.yaml").read_text() == before
    reset(project)


def test_every_exception_is_still_documented():
    texts = [one.text for one in documented_commands()]
    unused = [rule for rule in ELSEWHERE if not any(re.fullmatch(rule, text, re.DOTALL) for text in texts)]
    assert unused == []


@pytest.mark.parametrize("name", ["training", "generation", "serving", "corpus", "ngram"])
def test_a_benchmark_can_be_started(name):
    source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    compile(source, name, "exec")
    assert 'if __name__ == "__main__":' in source

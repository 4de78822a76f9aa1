"""Types every command of the README and of docs/, on a stand-in text, and checks what it promises."""

import gzip
import json
import random
import re

import pytest
from support.commands import ROOT, documented_commands
from support.projects import Project

# Commands that are not typed here, each rule with the reason. A rule that matches no command of the pages fails a test,
# and so does a file of tests that is not there.
ELSEWHERE = {
    r"make repro|make test|make test-all|make check": ".ci/run types them",
    r"make test-unit": "these tests themselves",
    r"pytest .*": "these tests themselves",
    r"charlm serve.*": "does not end: cli/test_serve.py",
    r"CHARLM_API_KEY=.* charlm serve .*": "does not end: end_to_end/test_operations_page.py",
    r"python -c .*charlm\.key.*": "end_to_end/test_operations_page.py",
    r"curl .*localhost:8000.*": "needs the server: end_to_end/test_operations_page.py",
    r"curl .*localhost:5001.*": "needs the server: end_to_end/test_end_to_end.py",
    r"curl .*127\.0\.0\.1:8000/v1.*": "needs the server: serving/test_clients.py",
    r"mlflow models serve.*": "does not end: end_to_end/test_end_to_end.py",
    r"mlflow ui": "does not end: tracking/test_view.py",
    r"mlflow models build-docker .*": "needs Docker",
    r"mlflow server.*": "does not end: lineage/test_team.py",
    r"mlflow gc .*": "needs PostgreSQL",
    r"createdb .*": "needs PostgreSQL: lineage/test_team.py",
    r"export MLFLOW_TRACKING_URI=.*": "needs a server: lineage/test_team.py",
    r"pip install .*": "needs the internet",
    r"dvc remote add .* (/|ssh:|s3:).*": "needs a remote; a folder as one: lineage/test_lineage.py",
    r"dvc push .*|git push && dvc push|git pull && dvc pull": "needs a remote: lineage/test_lineage.py",
    r"dvc exp (push|pull) origin .*": "needs a remote: lineage/test_lineage.py",
    r"dvc exp run --queue .*|dvc queue start .*": "starts a background worker: end_to_end/test_end_to_end.py",
    r"RAY_ADDRESS=.*|ray start .*|dvc exp run .*train\.workers.*": "needs Ray: training/test_workers.py",
    r"charlm sweep .*": "many trainings: end_to_end/test_sweep.py",
    r"python -m benchmarks\.(training|generation|serving|corpus|ngram|mixture|page|startup|workers)": "too long; below",
    r"(cp .* base|dvc exp run .*(charlm preset (base|tune)|train.start_from=base).*)": "end_to_end/test_start_from.py",
}
# These name a command in a sentence, without the arguments that it needs.
NAMES = [
    "charlm export",
    "charlm generate",
    "charlm new SOURCE",
    "charlm promote",
    "charlm promote VERSION",
    "charlm report --compare",
    "charlm score",
    "charlm sweep",
    "charlm trace",
    "charlm verify",
    "dvc exp apply",
    "dvc exp pull",
    "dvc exp run",
    "dvc exp run --temp",
    "dvc exp run -S",
    "dvc exp run -n NAME",
]
# What a page calls its experiment or version is replaced by one that the project below has.
STAND_INS = {
    "exp remove NAME": "exp remove spare",
    "NAME": "earlier",
    "compare wider": "compare earlier",
    "promote 3": "promote 2",
    "trace 3": "trace 2",
    "verify 3": "verify 2",
}
# What must be so before a command is typed.
BEFORE = {
    r"dvc exp remove .*": "dvc exp save -q -n spare",
    r"charlm (promote|rollback).*": "charlm promote 2 --force; charlm promote 1 --force",
    r"git checkout params\.yaml": "charlm preset quick --apply",
    # What a DVC that was killed while it wrote has left.
    r"git checkout dvc\.lock": "truncate --size=100 dvc.lock",
    r"git checkout \. && dvc checkout": "charlm preset quick --apply; rm models/charlm/weights.safetensors",
}
# Options typed after what the page shows. A chosen or named size would train for minutes, and later options win.
ADDED = {
    r"charlm new (?!.*--dry-run).*|dvc exp run .*\$\(charlm preset .*": "-S model.num_hidden=8 -S train.epochs=0.5",
    r"charlm corpus ..*": "--no-time",
    r"charlm promote .*": "--force",
    # Of a table that has the column.
    r"dvc exp run .*split\.by=column.*": (
        "-S data.source=reviews.csv -S data.text_column=body -S 'data.metadata=[year]'"
    ),
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
    # More threads than one only wait for each other in networks of this size.
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    assert "threads: 0" in params
    (folder / "params.yaml").write_text(params.replace("threads: 0", "threads: 1"), encoding="utf-8")
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


def is_elsewhere(text):
    return text in NAMES or any(re.fullmatch(rule, text, re.DOTALL) for rule in ELSEWHERE)


def matching(table, text):
    return [value for rule, value in table.items() if re.fullmatch(rule, text, re.DOTALL)]


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [one for one in documented_commands() if not is_elsewhere(one.text)],
    ids=lambda one: f"{one.page}: {one.text}",
)
def test_a_documented_command_works(project, command):
    text = command.text
    for name, stand_in in STAND_INS.items():
        text = text.replace(name, stand_in)
    for preparation in matching(BEFORE, text):
        shell(project, preparation)
    before = {name: (project.folder / name).read_text(encoding="utf-8") for name in ("params.yaml", "dvc.lock")}
    try:
        check(project, text, shell(project, " ".join([text, *matching(ADDED, text)])), before)
    finally:
        # Outputs follow dvc.lock: where Git has no change, there is nothing for the slow `dvc checkout` either.
        if project.git("status", "--porcelain"):
            project.reset()


def check(project, text, output, before):
    """Check what the pages promise of commands like `text`; `before` is what params.yaml and dvc.lock were."""
    after = {name: (project.folder / name).read_text(encoding="utf-8") for name in before}
    assert "Traceback" not in output
    if text.startswith(("dvc exp run", "dvc repro")) or (text.startswith("charlm new") and "--dry-run" not in text):
        # Every run ends with the summary.
        assert re.search(r"^perplexity +\d", output, re.MULTILINE), output[-3000:]
        assert "what next" in output
    if "--temp" in text or "--dry-run" in text or text.startswith(("charlm corpus", "charlm compare", "charlm report")):
        assert after["params.yaml"] == before["params.yaml"]
    if text == "dvc exp run -S model.num_hidden=128":
        # The changed param is named, and the command that undoes it is the one that works.
        assert "model.num_hidden 8 → 128" in output
        assert "git checkout params.yaml" in output
        assert after["params.yaml"] != before["params.yaml"]
        shell(project, "git checkout params.yaml")
        assert (project.folder / "params.yaml").read_text(encoding="utf-8") == before["params.yaml"]
    if "--json" in text:
        assert json.loads(output)
    if text.startswith("charlm corpus"):
        assert "dvc exp run" in output
        assert "overlap" in output
    if text.startswith("charlm new"):
        assert "git checkout params.yaml" in output or "--dry-run" in text
    if text.startswith("charlm generate"):
        named = re.search(r"--model (\S+)", text)
        assert f"model: {named[1] if named else 'models/charlm'}" in output
    if text.startswith("git checkout"):
        assert after != before
        # What earlier commands have exported is not Git's.
        assert project.git("status", "--porcelain", "--untracked-files=no") == ""
        assert project.weights()


def test_no_exception_is_stale():
    texts = [one.text for one in documented_commands()]
    rules = [*ELSEWHERE, *map(re.escape, NAMES)]
    assert [rule for rule in rules if not any(re.fullmatch(rule, text, re.DOTALL) for text in texts)] == []
    assert [name for name in STAND_INS if not any(name in text for text in texts)] == []
    typed = [text for text in texts if not is_elsewhere(text)]
    rules = [*BEFORE, *ADDED]
    assert [rule for rule in rules if not any(re.fullmatch(rule, text, re.DOTALL) for text in typed)] == []


def test_the_tests_that_type_the_others_exist():
    named = {name for reason in ELSEWHERE.values() for name in re.findall(r"[a-z_/]+\.py", reason)}
    assert {name for name in named if not (ROOT / "tests" / name).is_file()} == set()


@pytest.mark.parametrize(
    "name", ["training", "generation", "serving", "corpus", "ngram", "mixture", "page", "startup", "workers"]
)
def test_a_benchmark_can_be_started(name):
    source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    compile(source, name, "exec")
    assert 'if __name__ == "__main__":' in source

import json
import re
import socket
from html.parser import HTMLParser

import numpy as np
import pytest
from reporting.conftest import EVALUATE, FILES, SHA, write_project
from support.models import random_model

from pipeline.reporting.project import Project
from pipeline.reporting.report import build_report

SECTIONS = [
    "curves",
    "samples",
    "surprise",
    "position",
    "buckets",
    "characters",
    "mistakes",
    "corpus",
    "validation",
    "params",
    "versions",
    "again",
]
RECORD = EVALUATE["measurement"]
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The page's elements with their attributes, and its text without scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " "
        self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open[-1:]):
            self.text += data

    def sections(self):
        return [attrs["id"] for tag, attrs in self.elements if tag == "section" and attrs["id"] != "figures"]

    def words(self):
        return " ".join(self.text.split())


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


@pytest.fixture(scope="module")
def html(project):
    return build_report([project])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture
def larger(project, tmp_path):
    """A second project: a better model of the same eval text, another size."""
    params = FILES["params.yaml"].replace("num_hidden: 12", "num_hidden: 24")
    folder = write_project(tmp_path, evaluate={"perplexity": 3.0, "bits_per_char": 1.585}, params=params, seed=1)
    return Project("larger", folder, {"commit": "c0ffee" * 6, "baseline": {"model.num_hidden": 12}})


def test_every_section_is_there_in_order(page):
    assert page.sections() == SECTIONS
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]


@pytest.mark.parametrize(
    "words",
    [
        "Perplexity 3.500 eval text, windows of 100",
        "N-gram baseline 3.625 perplexity of Kneser-Ney order 9",
        "Baseline, state carried 3.375 n-gram, whole text",
        "Accuracy 61.0 %",
        "Training 42.7 s fp32 on cpu, 2 threads",
        "Parameters 4,321 LSTM, 2 layers of 12",
        "Corpus 1,200 characters, corpus.txt",
        "a bad bad bad 100 % of the words occur in the training text, longest repeat 8",
        "Sampled temperature 0.8, seed 7",
        "20 3.750 119",
        "a 40 1.00 50.0 %",
        "␣ 30 0.43 30.0 %",
        "↵ 9 0.29 20.0 %",
        "a → ␣ 12 30 %",
        "↵ → a 5 55 %",
        "— U+2014 - 7",
        "✗ 1 of 2 expectations hold.",
        "✗ fails eval not in train splits 0.9 at most 0.01 the eval text was trained on",
        "epochs 2 instead of 5",
        "The state is carried",
    ],
)
def test_the_page_contains(page, words):
    assert words in page.words()


def test_the_charts_have_the_files_figures(html):
    charts = data_of(html)["charts"]
    assert set(charts) == {"curve-epoch", "curve-seconds", "by-position", "by-character"}
    text = {name: json.dumps(spec) for name, spec in charts.items()}
    assert '"perplexity": 4.92' in text["curve-epoch"]
    assert "4.92" not in text["curve-seconds"]
    assert "n-gram baseline: 3.625" in text["by-position"]
    assert "9.5" in text["by-position"]


def test_the_excerpt_has_the_models_figures(html, project):
    from pipeline.generation.text import Writer

    excerpt = data_of(html)["excerpts"][0]
    text = "".join(excerpt["signs"]).replace("␣", " ").replace("↵", "\n")
    scored = Writer.load(project.folder / "models/charlm").score(text)
    assert len(text) == 116
    assert sum(excerpt["bits"]) / len(text) == pytest.approx(scored.bits_per_char, abs=0.01)
    assert html.count('<span class="b') >= len(text)


def test_each_document_of_an_excerpt_is_read_with_its_begin_and_end_symbols(tmp_path):
    from pipeline.generation.text import Writer
    from pipeline.reporting.texts import excerpts

    model = random_model(bounded=True, unknown=True)
    dictionary = model.dictionary
    model.save(tmp_path / "models/charlm")
    begin, end = [dictionary.begin], [dictionary.end]
    ids = [one for text in ("ab", "", "c\nd", "e" * 5000) for one in [*begin, *dictionary.encode(text), *end]]
    (tmp_path / "data/split/eval").mkdir(parents=True)
    np.save(tmp_path / "data/split/eval/ids.npy", np.array(ids, dtype=dictionary.dtype))
    dictionary.save(tmp_path / "data/split/dictionary.json")
    (excerpt,) = excerpts([Project("x", tmp_path)])
    assert excerpt.text == "ab\n\nc\nd\n" + "e" * (3000 - 12)
    writer = Writer.load(tmp_path / "models/charlm")
    log_probs = np.concatenate(
        [writer.score(text, ended=True).log_probs for text in ("ab", "", "c\nd")]
        + [writer.score("e" * (3000 - 12)).log_probs]
    )
    np.testing.assert_allclose(excerpt.bits, -log_probs / np.log(2), atol=0.006)
    signs = {name for row in excerpt.likely for name in row[::2]}
    assert signs <= {*"abcdefgh␣↵", "\u2402", "\u2403", "\ufffd", "¤"}


def test_the_page_has_rebuild_commands_and_no_personal_names(page, project):
    assert f"git checkout {'c0ffee' * 6}\nmake install" in page.text
    assert "dvc exp run -S data.source=corpus.txt" in page.text
    assert str(project.folder) not in page.text
    assert socket.gethostname() not in page.text


def test_an_absolute_path_is_not_shown(tmp_path):
    params = FILES["params.yaml"].replace("corpus.txt", "/home/somebody/speeches")
    html = build_report([Project("one", write_project(tmp_path, params=params), {"baseline": {"data.source": "sotu"}})])
    assert "somebody" not in html
    assert "-S data.source=…/speeches" in html.replace("&#39;", "")


def test_the_page_loads_nothing(html, page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    styles = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in styles and "@import" not in styles
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert len(html.encode()) < 2_000_000


@pytest.mark.parametrize(
    ("missing", "sections"),
    [
        ("plots/train.csv", ["curves"]),
        ("plots/position.csv", ["position"]),
        ("plots/characters.csv", ["characters"]),
        ("plots/mistakes.csv", ["mistakes"]),
        ("samples/samples.json", ["samples"]),
        ("reports/validation.json", ["validation"]),
        ("params.yaml", ["params"]),
        ("models/charlm/weights.safetensors", ["surprise"]),
        ("data/split/eval/ids.npy", ["surprise"]),
        ("metrics/evaluate.json", ["buckets"]),
        ("metrics/train.json", []),
        ("plots/tutorial.csv", []),
    ],
)
@pytest.mark.parametrize("damaged", [False, True])
def test_a_section_without_its_files_is_left_out(tmp_path, missing, sections, damaged):
    path = write_project(tmp_path) / missing
    path.unlink()
    if damaged:
        path.write_bytes(b"\xff{[,\n")
    html = build_report([Project("one", tmp_path)])
    assert Page(html).sections() == [name for name in SECTIONS if name not in sections]


def test_the_report_of_an_empty_folder_has_two_sections(tmp_path):
    assert Page(build_report([Project("nothing", tmp_path)])).sections() == ["versions", "again"]


def test_the_chart_by_position_has_space_for_the_baseline(tmp_path):
    html = build_report([Project("small", write_project(tmp_path, evaluate={"baseline_perplexity": 1.5}))])
    (scale,) = {
        json.dumps(layer["encoding"]["y"]["scale"])
        for layer in data_of(html)["charts"]["by-position"]["layer"]
        if "scale" in layer["encoding"].get("y", {})
    }
    assert json.loads(scale)["domain"][0] <= 1.5


def test_without_a_baseline_the_page_does_not_mention_one(tmp_path):
    baseline = dict.fromkeys(("baseline_perplexity", "baseline_perplexity_stateful", "baseline"))
    html = build_report([Project("old", write_project(tmp_path, evaluate=baseline))])
    assert "aseline" not in Page(html).words()
    assert "n-gram baseline" not in json.dumps(data_of(html)["charts"])


def test_html_in_files_is_escaped(tmp_path):
    text = json.dumps(HOSTILE)
    params = FILES["params.yaml"].replace("corpus.txt", text).replace("cell: lstm", f"cell: {text}")
    files = {
        "plots/characters.csv": f"character,count,mean_nats,share_of_loss\n{HOSTILE},4,0.5,1\n",
        "plots/mistakes.csv": f"mistake,count,share\n{HOSTILE} → space,4,0.5\n",
        "reports/clean.csv": f"codepoint,character,became,count\n{HOSTILE},{HOSTILE},{HOSTILE},1\n",
    }
    samples = [{"mode": HOSTILE, "temperature": HOSTILE, "seed": HOSTILE, "prompt": HOSTILE, "completion": HOSTILE}]
    evaluate = {"buckets": {HOSTILE: {"perplexity": HOSTILE, "num_chars": None}}, "perplexity": HOSTILE}
    write_project(tmp_path, params=params, files=files, samples=samples, evaluate=evaluate)
    validation = {"expectations": [dict.fromkeys(("name", "table", "found", "allowed", "why"), HOSTILE)]}
    (tmp_path / "reports/validation.json").write_text(json.dumps(validation))
    facts = {"commit": HOSTILE, "changed_files": [HOSTILE], "baseline": {"model.cell": "gru"}}
    projects = [Project(HOSTILE, tmp_path, facts)]
    for html in (build_report(projects), build_report(projects * 2)):
        page = Page(html)
        assert page.sections() == SECTIONS
        assert not [tag for tag, _ in page.elements if tag == "img"]
        assert [tag for tag, _ in page.elements].count("script") == 3
        assert "<img" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)  # Vega's own code has one
        assert HOSTILE in page.text


def test_an_expectation_that_only_warns_is_not_a_failure(tmp_path):
    write_project(tmp_path)
    rows = [("documents_present", True, True), ("overlap_is_low", False, False)]
    validation = {"expectations": [{"name": name, "passed": passed, "stops": stops} for name, passed, stops in rows]}
    (tmp_path / "reports/validation.json").write_text(json.dumps(validation))
    words = Page(build_report([Project("one", tmp_path, {})])).words()
    assert "✓ 1 of 2 expectations hold; 1 only warns." in words
    assert "! warns overlap is low" in words.replace("!warns", "! warns")


def test_the_best_is_marked_and_params_that_differ_are_shown(project, larger):
    page = Page(build_report([project, larger]))
    words = page.words()
    assert page.sections() == SECTIONS
    assert "Perplexity 3.500 3.000 best" in words
    assert "not comparable" not in words
    assert "model.num_hidden 12 24" in words
    assert "train.epochs" not in words.partition("Only those that differ")[2].partition("Versions")[0]


def test_all_models_read_the_same_excerpt(project, larger):
    data = data_of(build_report([project, larger]))
    first, second = data["excerpts"]
    assert first["signs"] == second["signs"]
    assert first["bits"] != second["bits"]
    assert data["names"] == ["workspace", "larger"]
    assert "larger" in json.dumps(data["charts"]["curve-epoch"])


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (RECORD | {"eval_sha256": SHA[::-1]}, "eval text abababab against babababa"),
        (RECORD | {"window": 50}, "window 100 against 50"),
        (RECORD | {"precision": "bfloat16"}, "precision float32 against bfloat16"),
        (None, "there is no record of how it was measured"),
    ],
)
def test_figures_that_were_measured_otherwise_are_not_ranked(project, tmp_path, record, why):
    folder = write_project(tmp_path, evaluate={"perplexity": 2.0, "measurement": record})
    html = build_report([project, Project("other", folder)])
    assert f"Not comparable: {why}." in html
    assert 'class="best"' not in html
    assert 'class="better"' not in html and 'class="worse"' not in html


def test_projects_of_the_same_name_get_numbers(project):
    assert data_of(build_report([project, project]))["names"] == ["workspace", "workspace (2)"]

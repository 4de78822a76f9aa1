"""The exported file: its parts, sizes, and what is refused. tests/export/test_browser.py opens it."""

import base64
import errno
import hashlib
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from support.models import random_model, with_ngram
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.export.page import OWN, SERVED, bundle, export_page, page_of
from pipeline.export.payload import payload_of, perplexity, rounded, samples_of, to_bf16, to_int8, with_ngram_of
from pipeline.export.wasm import assembled
from pipeline.model.ngram import NgramModel
from pipeline.serving.model_source import Located

MEGABYTE = 1_000_000
NGRAM_BYTES = 900_000  # the default of `charlm export`


@pytest.fixture
def folder(tmp_path):
    with_ngram(random_model()).save(tmp_path / "model")
    return tmp_path


def exported(folder, name="page.html", **options):
    given = {"weights": "int8", "ngram_bytes": NGRAM_BYTES, "title": "small", "prompt": "abc"} | options
    return export_page(Located(folder / "model", "small"), folder / name, **given)


def contents(page):
    """Return the content of each script and style."""
    return dict(re.findall(r"<(script[^>]*|style)>(.*?)</(?:script|style)>", page, re.DOTALL))


def unpacked(payload):
    """Return the header and the arrays of a payload."""
    data = zlib.decompress(payload)
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    places = header["arrays"].items()
    return header, {
        name: np.frombuffer(data, one["kind"], one["length"], 4 + length + one["at"]) for name, one in places
    }


def test_the_file_is_the_servers_page_with_a_strict_policy(folder):
    exported(folder, title="Mine & <b>", prompt="abc")
    page = (folder / "page.html").read_text()
    assert page.index("Content-Security-Policy") < page.index("<title>Mine &amp; &lt;b&gt;</title>")
    policy = re.search('Content-Security-Policy" content="([^"]+)"', page)[1]
    directives = {name: values for name, *values in map(str.split, policy.split(";"))}
    parts = contents(page)
    script, style = (
        base64.b64encode(hashlib.sha256(parts[tag].encode()).digest()).decode()
        for tag in ('script type="module"', "style")
    )
    assert directives == {
        "default-src": ["'none'"],
        "script-src": [f"'sha256-{script}'", "'wasm-unsafe-eval'"],
        "style-src": [f"'sha256-{style}'"],
        "worker-src": ["blob:"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    addresses = re.findall(r'\b(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(one.startswith("data:") for one in addresses)
    assert ">abc</textarea>" in page


def test_all_modules_are_in_the_scripts_and_nothing_ends_them_early():
    scripts = {name: bundle(name) for name in ("app", "worker")}
    for script in scripts.values():
        assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
        assert "</script" not in script
        assert "<!--" not in script
    both = "".join(scripts.values())
    served = {path.stem for path in SERVED.glob("*.js")} - {"api", "events"}  # the server's client
    for name in served | {path.stem for path in OWN.glob("*.js")}:
        assert f"const ${name.replace('-', '_')} = " in both, name
    assert "fetch(" not in both


def test_the_server_has_the_functions_of_the_other_model():
    served, own = ((folder / "model.js").read_text() for folder in (SERVED, OWN))
    exported = set(re.search(r"export \{ (.*) \} from", served)[1].split(", "))
    assert exported == set(re.findall(r"^export (?:async )?(?:function\*?|const) (\w+)", own, re.MULTILINE))


@pytest.mark.parametrize("weights", ["int8", "bf16"])
def test_the_page_has_the_values_that_perplexities_are_measured_with(weights):
    model = with_ngram(random_model(unknown=True, bounded=True))
    header, arrays = unpacked(payload_of(model, weights, card={"name": "x"}).data)
    assert header["card"] == {"name": "x"}
    assert header["dictionary"]["symbols"] == list(model.dictionary.symbols)
    for name, value in rounded(model, weights).weights.items():
        stored = arrays[name]
        if value.ndim == 2 and weights == "int8":
            stored = stored.reshape(value.shape) * arrays[f"{name}.scale"][:, None]
        elif value.ndim == 2:
            low, high = stored.reshape(2, -1).astype(np.uint32)
            stored = (((high << 8) | low) << 16).view(np.float32).reshape(value.shape)
        assert np.array_equal(stored, value), name
    trie = model.ngram.trie
    assert np.array_equal(arrays["ngram.text"], trie.text)
    assert sum(header["ngram"]["levels"]) + 1 == len(trie.counts)


def test_rounding_is_to_the_nearest():
    matrix = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    whole, scale = to_int8(matrix)
    assert np.abs(whole).max(axis=1).tolist() == [127] * 50
    assert (np.abs(whole * scale[:, None] - matrix) <= scale[:, None] * 0.5001).all()
    halves = (to_bf16(matrix).astype(np.uint32) << 16).view(np.float32)
    assert (np.abs(halves - matrix) <= np.abs(matrix) * 2.0**-8).all()
    assert to_int8(np.zeros((2, 3), np.float32))[0].tolist() == [[0] * 3] * 2


def test_the_ngram_model_is_cut_to_the_size_that_is_requested():
    model = random_model(characters="".join(map(chr, range(32, 110))))
    ids = np.random.default_rng(0).integers(1, len(model.dictionary), 20_000)
    own = NgramModel.fit(ids, vocab_size=len(model.dictionary), order=3).with_weights(np.ones((24, 2), np.float32))
    model = with_ngram(model).__class__(
        model.config.model_copy(update={"ngram_order": 3}), model.weights, model.dictionary, own
    )
    assert with_ngram_of(model, MEGABYTE) is model
    assert with_ngram_of(model, 0).ngram is None
    assert with_ngram_of(model, 0).config.ngram_order == 0
    small = with_ngram_of(model, 8_000)
    whole, without = (payload_of(one, "int8") for one in (small, with_ngram_of(model, 0)))
    assert 7_000 < (len(whole.data) - len(without.data)) * 4 / 3 < 9_500
    kept = len(small.ngram.trie.text)
    again = NgramModel.fit(ids[-kept:], vocab_size=len(model.dictionary), order=3).trie
    assert np.array_equal(small.ngram.trie.counts, again.counts)
    assert not small.ngram.complete


@pytest.mark.parametrize(("hidden", "most"), [(384, 2 * MEGABYTE), (640, 4 * MEGABYTE)])
def test_the_sizes_of_the_default_model_and_of_the_best(hidden, most):
    model = random_model(characters="".join(map(chr, range(32, 114))), layers=1, hidden=hidden, embed=64)
    page = page_of(payload_of(model, "int8").data, title="", prompt="")
    assert len(page) + NGRAM_BYTES * 1.03 < most


def test_int8_is_used_only_if_it_costs_little(folder, monkeypatch):
    assert exported(folder, weights=None).weights == "int8"
    monkeypatch.setattr("pipeline.export.page.MOST_COST", -1)
    assert exported(folder, weights=None).weights == "bf16"


def test_costs_are_measured_on_the_eval_text_or_on_the_models_own(folder, monkeypatch):
    done = exported(folder)
    model = with_ngram(random_model())
    assert done.text == "text that it wrote"
    texts = samples_of(model)
    assert done.own == pytest.approx(perplexity(model, texts))
    assert done.perplexity == pytest.approx(perplexity(rounded(model, "int8"), texts))
    assert done.measured == sum(len(one) - 1 for one in texts)

    ids = np.array([1, 2, 3, 4, 1, 2, 3, 4], dtype=np.uint8)
    (folder / "data/split/eval").mkdir(parents=True)
    np.save(folder / "data/split/eval/ids.npy", ids)
    write_json(folder / "data/split/eval/samples.json", {"samples": "stream", "buckets": [4]})
    model.dictionary.save(folder / "data/split/dictionary.json")
    model.save(folder / "models/charlm")
    monkeypatch.setattr("pipeline.export.page.project_root", lambda: folder)
    options = {"weights": "int8", "ngram_bytes": 0, "title": "", "prompt": ""}
    done = export_page(Located(folder / "models/charlm", "charlm"), folder / "own.html", **options)
    assert (done.text, done.measured) == ("its eval text", 7)
    assert done.own == pytest.approx(perplexity(model, [ids.astype(np.int64)]))
    assert (done.ngram_chars, done.ngram_of, done.ngram) == (0, 1000, 0)


def test_the_same_model_gives_the_same_bytes(folder):
    exported(folder)
    exported(folder, "again.html")
    assert (folder / "page.html").read_bytes() == (folder / "again.html").read_bytes()


def test_a_prompt_that_the_model_cannot_read_is_left_out(folder):
    exported(folder, prompt="The United States are")
    assert 'aria-describedby="prompt-hint prompt-unknown"></textarea>' in (folder / "page.html").read_text()


def test_the_code_is_a_module_with_the_functions_that_the_page_calls():
    code = assembled()
    assert code.startswith(b"\0asm\1\0\0\0")
    for name in (b"multiply", b"lstm", b"gru", b"rnn", b"exps", b"__linear_memory"):
        assert name in code


def charlm(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_prints_sizes_and_costs(folder):
    done = charlm(folder / "page.html", "--model", folder / "model", "--ngram-size", "1kb")
    assert done.exit_code == 0, done.exception
    assert re.search(r"^network +[\d.]+ kB as (int8|bf16), perplexity [+-][\d.]+%$", done.stdout, re.MULTILINE)
    assert re.search(r"^n-gram +[\d.]+ (kB|bytes)", done.stdout, re.MULTILINE)
    assert re.search(
        r"^perplexity +[\d.]+, the model's own [\d.]+, on 7,992 characters of text that it wrote$",
        done.stdout,
        re.MULTILINE,
    )
    assert "the page contains that training text; --ngram-size 0 leaves it out" in done.stdout
    alone = charlm(folder / "alone.html", "--model", folder / "model", "--ngram-size", "0")
    assert "contains" not in alone.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["there.html"], "there.html: already exists; --force replaces it"),
        (["a.txt"], "a.txt: found the ending '.txt', allowed is NAME.html, NAME.onnx or a folder NAME/"),
        (["folder.html"], "folder.html: is a folder, allowed is the name of a file"),
        (["a.html", "--ngram-size", "1GB"], "--ngram-size: found '1GB', allowed is a size like 900KB or 1MB, or 0"),
        (["a.html", "--ngram-size", "-1"], "--ngram-size: found '-1', allowed is a size like 900KB or 1MB, or 0"),
        (["a.html", "--model", "nowhere"], "--model: nowhere: no model there; allowed is a folder, "),
        (["a.html", "--model", "newer"], "newer/config.json: not a network's configuration"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    Path("there.html").write_text("mine")
    Path("folder.html").mkdir()
    random_model().save(Path("newer"))
    config = Path("newer/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"attention": 2}))
    before = sorted(Path().rglob("*"))
    model = [] if "--model" in arguments else ["--model", "model"]
    done = charlm(*arguments, *model)
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(message)
    assert sorted(Path().rglob("*")) == before
    assert Path("there.html").read_text() == "mine"


def test_without_space_nothing_is_left(folder, monkeypatch):
    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    (folder / "page.html").write_text("mine")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"page.html: the disk is full"):
        exported(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model", "page.html"]
    assert (folder / "page.html").read_text() == "mine"

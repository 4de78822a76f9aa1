"""An exported folder has what hubs expect; an imported one is checked before it is used."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, write_json
from pipeline.export.hub_folder import MANIFEST
from pipeline.export.importing import opened
from pipeline.model.saved import SavedModel
from pipeline.serving.model_source import load_served
from pipeline.training.start_model import copy_start_model


def front_matter(folder):
    return YAML(typ="safe").load((folder / "README.md").read_text("utf-8").split("---\n")[1])


def test_the_front_matter_is_what_hubs_read(exported):
    found = front_matter(exported)
    assert found["license"] == "mit"
    assert found["pipeline_tag"] == "text-generation"
    assert "lstm" in found["tags"]
    result = found["model-index"][0]["results"][0]
    assert [one["value"] for one in result["metrics"]] == [3.5936, 3.7]
    assert "bbbbbbbbbbbb" in result["dataset"]["name"]


def test_the_card_shows_figures_curve_and_samples(exported):
    text = (exported / "README.md").read_text("utf-8")
    for part in (
        "| perplexity | 3.594 |",
        "Kneser-Ney order 9 | 3.700",
        "| 3 | 2 | 5.000 |",
        "`12`",
        "a text\nwith ``` in it",
    ):
        assert part in text
    assert "````text" in text  # a fence that the sample does not contain


def test_the_weights_are_the_same_bytes_and_the_manifest_has_every_file(exported, tmp_path):
    assert sha256_of(exported / "model.safetensors") == sha256_of(tmp_path / "own/weights.safetensors")
    manifest = json.loads((exported / MANIFEST).read_text("utf-8"))
    assert set(manifest) == {path.name for path in exported.iterdir()} - {MANIFEST, "README.md"}


def test_what_was_exported_can_be_imported(exported, model):
    with opened(str(exported)) as (folder, found, card):
        assert all((found.weights[name] == value).all() for name, value in model.weights.items())
        assert card["perplexity"] == 3.5936
        assert SavedModel.load(folder).dictionary == model.dictionary


def test_an_exported_folder_can_be_used_as_it_is(exported, model):
    served = load_served(str(exported))
    assert served.card["name"] == "charlm-book"
    assert served.card["perplexity"] == 3.5936
    assert served.writer.dictionary == model.dictionary
    copy_start_model(exported, exported.parent / "start")
    assert SavedModel.load(exported.parent / "start").dictionary == model.dictionary


def test_a_zip_file_can_be_imported(exported, tmp_path):
    shutil.make_archive(str(tmp_path / "zipped"), "zip", exported.parent, exported.name)
    with opened(str(tmp_path / "zipped.zip")) as (_, _, card):
        assert card["corpus"] == "book.txt"


def test_an_address_can_be_imported(exported):
    import fsspec

    fsspec.filesystem("memory").put(f"{exported}/", "/hub/book/", recursive=True)
    with opened("memory://hub/book") as (_, _, card):
        assert card["corpus"] == "book.txt"


def test_a_folder_without_card_and_manifest_can_be_imported(exported):
    for name in ("card.json", MANIFEST, "README.md"):
        (exported / name).unlink()
    with opened(str(exported)) as (_, _, card):
        assert card == {}


def rewritten(exported, name, value):
    """Replace a file and correct the manifest, as someone who wants to do harm would."""
    path = exported / name
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        write_json(path, value)
    manifest = json.loads((exported / MANIFEST).read_text("utf-8"))
    manifest[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    write_json(exported / MANIFEST, manifest)


def config(exported, **changes):
    return json.loads((exported / "config.json").read_text("utf-8")) | changes


def other_types(folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: value.astype(np.float16) for name, value in weights.items()}, folder / "new")
    rewritten(folder, "model.safetensors", (folder / "new").read_bytes())


def with_nan(folder):
    weights = load_file(folder / "model.safetensors")
    weights["output.bias"][0] = np.nan
    save_file(weights, folder / "new")
    rewritten(folder, "model.safetensors", (folder / "new").read_bytes())


HOSTILE = {
    "huge shapes": lambda folder: rewritten(folder, "config.json", config(folder, num_hidden=10**9)),
    "very many layers": lambda folder: rewritten(folder, "config.json", config(folder, num_layers=10**12)),
    "a cell that does not exist": lambda folder: rewritten(folder, "config.json", config(folder, cell="os.system")),
    "a key that does not exist": lambda folder: rewritten(folder, "config.json", config(folder, auto_map={})),
    "another vocabulary": lambda folder: rewritten(folder, "config.json", config(folder, vocab_size=5)),
    "an n-gram model that is not there": lambda folder: rewritten(folder, "config.json", config(folder, ngram_order=6)),
    "deep JSON": lambda folder: rewritten(folder, "config.json", b"[" * 100_000),
    "a pickle as weights": lambda folder: rewritten(folder, "model.safetensors", b"\x80\x04cposix\nsystem\n."),
    "a header that lies": lambda folder: rewritten(
        folder, "model.safetensors", (1 << 40).to_bytes(8, "little") + b"{}"
    ),
    "other types": other_types,
    "NaN": with_nan,
    "a card that is a list": lambda folder: rewritten(folder, "card.json", []),
    "a card with a word as figure": lambda folder: rewritten(folder, "card.json", {"perplexity": "low"}),
    "a card with an infinite figure": lambda folder: rewritten(
        folder, "card.json", b'{"name": "a", "perplexity": 1e999}'
    ),
    "a manifest that is a list": lambda folder: write_json(folder / MANIFEST, []),
    "a manifest with a path": lambda folder: write_json(folder / MANIFEST, {"../../etc/passwd": {"sha256": ""}}),
    "a changed file": lambda folder: (folder / "config.json").write_text("{}"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_folder_is_rejected_in_one_line(exported, harm):
    HOSTILE[harm](exported)
    with pytest.raises(UserError) as error, opened(str(exported)):
        pass
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    assert "charlm-import-" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", MANIFEST])
def test_a_folder_of_a_newer_format_is_refused_before_anything_else_is_looked_at(exported, name):
    content = json.loads((exported / name).read_text("utf-8"))
    write_json(exported / name, content | {"format": 2, "adapters.json": {}})
    (exported / "dictionary.json").unlink()
    with pytest.raises(UserError) as error, opened(str(exported)):
        pass
    assert str(error.value).startswith(f"{exported}/{name}: format: found 2, allowed is 1; a newer charlm wrote this")


def test_a_manifest_may_name_this_format(exported):
    write_json(exported / MANIFEST, json.loads((exported / MANIFEST).read_text("utf-8")) | {"format": 1})
    with opened(str(exported)):
        pass


def test_paths_in_a_zip_file_lead_nowhere(exported, tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../config.json", "/dictionary.json", "a/../../model.safetensors", "a/b/config.json"):
            archive.writestr(name, "{}")
    with pytest.raises(UserError, match="no model"), opened(str(path)):
        pass
    assert not (tmp_path / "config.json").exists()


def test_a_zip_bomb_is_stopped(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (5 << 20))
    with pytest.raises(UserError, match="larger than 4 MB"), opened(str(tmp_path / "bomb.zip")):
        pass


def test_nothing_there(tmp_path):
    for address in (str(tmp_path / "none"), "nosuch://x"):
        with pytest.raises(UserError), opened(address):
            pass


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
def test_a_pipe_is_not_read(exported):
    (exported / "card.json").unlink()
    os.mkfifo(exported / "card.json")
    with pytest.raises(UserError, match=r"card\.json"), opened(str(exported)):
        pass

"""Saving and loading a model, and refusing a damaged one."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import Dictionary
from pipeline.model.ngram import NgramModel
from pipeline.model.ngram_kernels import COUNT_GROUPS
from pipeline.model.saved import SavedModel


@pytest.fixture
def folder(tmp_path):
    random_model().save(tmp_path / "model")
    return tmp_path / "model"


def test_saving_and_loading_gives_the_same_model_and_bytes(tmp_path, folder):
    loaded = SavedModel.load(folder)
    assert loaded.config == random_model().config
    assert all(np.array_equal(loaded.weights[name], value) for name, value in random_model().weights.items())
    loaded.save(tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "dictionary.json"])
def test_a_missing_file_is_an_error(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        SavedModel.load(folder)


def test_truncated_weights_are_an_error(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"weights.safetensors: damaged or cut off"):
        SavedModel.load(folder)


def test_a_dictionary_of_another_size_is_an_error(folder):
    Dictionary.of("abc").save(folder / "dictionary.json")
    with pytest.raises(UserError, match=r"dictionary.json: holds 4 ids, allowed are the 11 of config.json"):
        SavedModel.load(folder)


def test_weights_of_another_network_are_an_error(tmp_path, folder):
    random_model(hidden=8).save(tmp_path / "other")
    (tmp_path / "other/weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(UserError, match=r"layers.0.weight_ih_l0 is float32 \[32, 6\], allowed is float32 \[48, 6\]"):
        SavedModel.load(folder)
    random_model(layers=1).save(tmp_path / "shallow")
    (tmp_path / "shallow/weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(UserError, match="do not fit"):
        SavedModel.load(folder)


def test_weights_with_nan_are_an_error(tmp_path):
    model = random_model()
    model.weights["output.bias"][0] = np.nan
    model.save(tmp_path / "nan")
    with pytest.raises(UserError, match=r"output.bias holds NaN"):
        SavedModel.load(tmp_path / "nan")


def test_a_damaged_config_is_an_error(folder):
    (folder / "config.json").write_text('{"cell": "transformer"}')
    with pytest.raises(UserError, match="not a network's configuration"):
        SavedModel.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[" * 100_000, "config.json: not a network's configuration"),
        ("config.json", {"num_layers": 10**9}, "config.json: not a network's configuration"),
        ("config.json", {"vocab_size": None}, "config.json: not a network's configuration"),
        ("dictionary.json", "[" * 100_000, "dictionary.json: not a dictionary"),
        ("dictionary.json", {"characters": "abcdefgh \n"}, "dictionary.json: not a dictionary"),
        ("dictionary.json", {"characters": ["\ud800", *"bcdefgh \n"]}, "dictionary.json: not a dictionary"),
        ("dictionary.json", {"characters": [*"aacdefgh \n"]}, "dictionary.json: holds 'a' twice"),
    ],
)
def test_odd_json_is_an_error(folder, name, content, message):
    path = folder / name
    text = content if isinstance(content, str) else json.dumps(json.loads(path.read_text()) | content)
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        SavedModel.load(folder)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_files_follow_the_umask(tmp_path):
    ids = np.arange(1, 9, dtype=np.uint8).repeat(9)
    ngram = NgramModel.fit(ids, vocab_size=11, order=2).with_weights(np.ones((9 * COUNT_GROUPS, 2), np.float32))
    before = os.umask(0o027)
    try:
        replace(random_model(), ngram=ngram).save(tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {"0o640"}


def test_a_newer_format_is_an_error_that_says_so_whatever_else_is_new(folder):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"format": 2, "attention": True}), encoding="utf-8")
    (folder / "dictionary.json").write_text('{"tokens": []}', encoding="utf-8")
    with pytest.raises(UserError) as error:
        SavedModel.load(folder)
    assert str(error.value) == (
        f"{folder / 'config.json'}: format: found 2, allowed is 1; a newer charlm wrote this model, so update charlm"
    )


def test_this_format_may_be_named_and_no_other_value_is_a_format(folder):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    before = SavedModel.load(folder).config
    (folder / "config.json").write_text(json.dumps(config | {"format": 1}), encoding="utf-8")
    assert SavedModel.load(folder).config == before
    for odd in ("2", 0, 1.5, None, [2]):
        (folder / "config.json").write_text(json.dumps(config | {"format": odd}), encoding="utf-8")
        with pytest.raises(UserError, match="not a network's configuration"):
            SavedModel.load(folder)

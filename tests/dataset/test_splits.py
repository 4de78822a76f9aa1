import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.building import build_splits
from pipeline.dataset.dictionary import UNKNOWN, Dictionary
from pipeline.dataset.splits import cut_text, load_split
from pipeline.errors import UserError
from pipeline.params.split import SplitParams


def build(folder, pieces, **params):
    folder.mkdir()
    return build_splits(lambda: pieces, folder, SplitParams(**params))


def test_the_text_is_cut_before_bucketing(tmp_path, text):
    figures = build(tmp_path / "s", [text], buckets=(10, 30))
    at = round(len(text) * 0.9)
    dictionary = Dictionary.load(tmp_path / "s/dictionary.json")
    assert dictionary.decode(load_split(tmp_path / "s/train").ids) == text[:at]
    assert dictionary.decode(load_split(tmp_path / "s/eval").ids) == text[at:]
    assert figures["eval_sha256"] == hashlib.sha256(text[at:].encode()).hexdigest()
    assert (figures["train_chars"], figures["eval_chars"]) == (at, len(text) - at)


def test_the_arrays_are_small_and_memory_mapped(tmp_path, text):
    build(tmp_path / "s", [text])
    ids = load_split(tmp_path / "s/train").ids
    assert isinstance(ids, np.memmap)
    assert ids.dtype == np.uint8


def test_how_the_text_comes_in_pieces_does_not_matter(tmp_path, text):
    assert build(tmp_path / "a", [text]) == build(tmp_path / "b", [text[:7], "", text[7:2000], text[2000:]])
    for name in ("train/ids.npy", "train/bucket_00100.npy", "eval/ids.npy", "dictionary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_dictionary_from_train_knows_what_it_does_not_know(tmp_path):
    build(tmp_path / "s", ["ab" * 50 + "c" * 5 + "ab"], train_fraction=0.9, dictionary_from="train")
    assert Dictionary.load(tmp_path / "s/dictionary.json").characters == ("a", "b")
    assert (load_split(tmp_path / "s/eval").ids == UNKNOWN).sum() == 5


def test_a_text_too_short_to_cut_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"split.train_fraction: 0.9 of 5 characters leaves"):
        build(tmp_path / "s", ["short"])


def test_a_damaged_array_is_told(split_folder):
    path = split_folder / "train/ids.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="train: not a split"):
        load_split(split_folder / "train")


@given(st.lists(st.text(max_size=5)), st.integers(0, 30))
def test_cut_text(pieces, at):
    before, after = cut_text(lambda: pieces, at)
    text = "".join(pieces)
    assert ("".join(before), "".join(after)) == (text[:at], text[at:])

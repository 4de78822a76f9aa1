import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, write_json
from pipeline.dataset.dictionary import UNKNOWN, Dictionary


def test_ids_are_the_sorted_characters_from_one():
    dictionary = Dictionary.of("banana")
    assert dictionary.characters == ("a", "b", "n")
    assert dictionary.encode("ban").tolist() == [2, 1, 3]
    assert len(dictionary) == 4
    assert dictionary.symbols[0] == "¤"


def test_unknown_has_id_one():
    dictionary = Dictionary.of("ab", unknown=True)
    assert dictionary.encode("a?b").tolist() == [2, UNKNOWN, 3]
    assert dictionary.decode([2, 1, 3]) == "a\ufffdb"


def test_without_unknown_a_missing_character_is_negative():
    assert Dictionary.of("ab").encode("a?\U0001f600").tolist() == [1, -1, -1]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_decoding_undoes_encoding(text):
    dictionary = Dictionary.of(text)
    assert dictionary.decode(dictionary.encode(text)) == text


@pytest.mark.parametrize(
    ("size", "dtype"), [(255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.uint32)]
)
def test_the_dtype_is_the_smallest_that_holds_every_id(size, dtype):
    assert Dictionary(tuple(chr(0x10000 + i) for i in range(size))).dtype == dtype


@pytest.mark.parametrize("unknown", [False, True])
def test_a_dictionary_is_loaded_as_saved(tmp_path, unknown):
    dictionary = Dictionary.of("añ\n", unknown=unknown)
    dictionary.save(tmp_path / "d.json")
    assert Dictionary.load(tmp_path / "d.json") == dictionary
    assert read_json(tmp_path / "d.json")["padding"] == 0


@pytest.mark.parametrize(
    "content", [{}, [], {"characters": ["ab"], "unknown": None}, {"characters": ["a"], "unknown": 5}]
)
def test_a_file_that_is_not_a_dictionary_is_refused(tmp_path, content):
    write_json(tmp_path / "d.json", content)
    with pytest.raises(UserError, match="not a dictionary"):
        Dictionary.load(tmp_path / "d.json")


def test_a_missing_dictionary_is_reported(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Dictionary.load(tmp_path / "d.json")

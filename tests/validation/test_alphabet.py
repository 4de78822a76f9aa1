import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import UNKNOWN_SIGN, Dictionary
from pipeline.validation.comparisons import read_alphabet, write_alphabet


def test_the_table_has_a_row_per_character_and_none_for_other_symbols(tmp_path):
    dictionary = Dictionary.of('\n"aé', unknown=True, bounded=True)
    counts = {"train": np.array([0, 7, 3, 3, 1, 2, 30, 4]), "eval": np.array([0, 1, 1, 1, 0, 0, 5, 0, 0])}
    write_alphabet(tmp_path / "alphabet.csv", dictionary, counts)
    assert (tmp_path / "alphabet.csv").read_text(encoding="utf-8") == (
        "codepoint,character,train,eval,test\n"
        "U+000A,,1,0,0\n"
        'U+0022,"""",2,0,0\n'
        "U+0061,a,30,5,0\n"
        "U+00E9,é,4,0,0\n"
        f"U+FFFD,{UNKNOWN_SIGN},7,1,0\n"
    )


@given(st.sets(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.integers(0, 10**12))
def test_what_was_written_is_read(tmp_path_factory, characters, most):
    path = tmp_path_factory.mktemp("alphabet") / "alphabet.csv"
    dictionary = Dictionary.of(characters)
    counts = {"train": np.arange(len(dictionary)), "test": np.full(len(dictionary), most)}
    write_alphabet(path, dictionary, counts)
    expected = {char: place + most for place, char in enumerate(dictionary.characters, start=1)}
    assert read_alphabet(path.read_text(encoding="utf-8").splitlines()) == expected


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<html>",
        "codepoint,character,train,eval,test",
        "codepoint,character,train,eval\nU+0061,a,1,2",
        "codepoint,character,train,eval,test\nU+0061,a,1,2",
        "codepoint,character,train,eval,test\nU+0061,a,1,2,x",
        "codepoint,character,train,eval,test\nU+0061,a,1,2,-9",
        "codepoint,character,train,eval,test\nU+0061,a,1,2,9999999999999999999999",
        "codepoint,character,train,eval,test\nU+110000,a,1,2,3",
        "codepoint,character,train,eval,test\nU+FFFFFFFFFFFFFFFFFF,a,1,2,3",
        "codepoint,character,train,eval,test\nx,a,1,2,3",
    ],
)
def test_another_table_is_refused(content):
    with pytest.raises(UserError, match="not a table of characters"):
        read_alphabet(content.splitlines())

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import UNKNOWN_SIGN, Dictionary
from pipeline.validation.comparisons import divergence, drift, read_alphabet, write_alphabet


def test_the_alphabet_is_a_table_of_characters_without_symbols(tmp_path):
    dictionary = Dictionary.of('a\n",', unknown=True, bounded=True)
    # padding, unknown, begin, end, newline, quote, comma, a
    counts = {"train": np.array([9, 1, 5, 5, 2, 3, 4, 6]), "eval": np.array([0, 0, 1, 1, 0, 0, 1, 2])}
    path = tmp_path / "reports/alphabet.csv"
    write_alphabet(path, dictionary, counts)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "codepoint,character,train,eval,test",
        "U+000A,,2,0,0",
        'U+0022,"""",3,0,0',
        'U+002C,",",4,1,0',
        "U+0061,a,6,2,0",
        f"U+FFFD,{UNKNOWN_SIGN},1,0,0",
    ]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert read_alphabet(lines) == {"\n": 2, '"': 3, ",": 5, "a": 8, UNKNOWN_SIGN: 1}


@pytest.mark.parametrize("text", ["x,y\n1,2", "codepoint,train,eval,test\nU+0G,1,1,1", "codepoint,train\nU+0061,1"])
def test_another_table_is_refused(text):
    with pytest.raises(UserError, match="not a table of characters"):
        read_alphabet(text.splitlines())


def test_the_divergence_is_in_bits():
    assert divergence({"a": 3, "b": 1}, {"a": 300, "b": 100}) == 0.0
    assert divergence({"a": 3}, {"b": 5}) == 1.0
    assert divergence({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(0.3112781)  # h(3/4) - h(1/2)/2
    assert divergence({}, {"a": 1}) == 0.0


def test_drift_names_new_characters():
    found = drift({"a": 90, "b": 10, "é": 0}, {"a": 90, "b": 8, "é": 1, "ü": 1})
    assert found.new == ("é", "ü")
    assert found.format().startswith("2 new characters ('é', 'ü'; 2 % of the text), Jensen-Shannon divergence 0.01")
    assert found.exceeds(1.0)
    many = drift({"a": 10}, {"a": 10} | dict.fromkeys("bcdefgh", 1))
    assert "7 new characters ('b', 'c', 'd', 'e', 'f', …; 41.2 % of the text)" in many.format()


def test_a_text_like_the_other_has_not_drifted():
    found = drift({"a": 90, "b": 10}, {"a": 89, "b": 11})
    assert not found.exceeds(0.01)
    assert found.exceeds(0.0)
    assert found.format() == "Jensen-Shannon divergence 0.000192 bits"

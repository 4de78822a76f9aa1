import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import tables

from pipeline.survey.survey import LONGEST_LINE, advise, script_of, survey

ENGLISH = (
    "We hold these truths to be self-evident,\nthat all men are created equal, that they are endowed\nwith rights.\n"
)


def advice(*texts):
    return {one.key: one.value for one in advise(survey(tables(*texts)()))}


@given(
    st.lists(st.text("ab é世\n\t", max_size=30), min_size=1, max_size=5).filter(any),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_what_is_counted_is_there(texts, most, at_once):
    found = survey(tables(*texts, most=most, at_once=at_once)())
    assert found.documents == len(texts)
    assert found.characters == sum(map(len, texts))
    assert sorted(found.document_lengths) == sorted(map(len, texts))
    assert set(found.alphabet) == set("".join(texts))
    lines = [line for text in texts for line in text.removesuffix("\n").split("\n") if text]
    assert found.lines == len(lines)
    assert found.line_lengths.tolist()[:40] == np.bincount([len(line) for line in lines], minlength=40)[:40].tolist()
    assert found.longest_line == max(map(len, lines))
    if found.longest_line:
        longest = [number for number, text in enumerate(texts) if found.longest_line in map(len, text.split("\n"))]
        assert found.longest_line_in in {f"document {number}" for number in longest}
    assert found.duplicates == len(texts) - len(set(texts))
    assert found.duplicate_characters == sum(map(len, texts)) - sum(map(len, set(texts)))


def test_very_long_lines_are_counted_together():
    found = survey(tables("x" * (LONGEST_LINE + 7) + "\n" + "y" * (3 * LONGEST_LINE))())
    assert found.line_lengths[LONGEST_LINE] == 2
    assert found.longest_line == 3 * LONGEST_LINE


def test_rare_characters_and_scripts():
    found = survey(tables("aaaaaaaaaaaa bbbbbbbbbbbbЖ世9.")())
    assert set(found.rare) == set(" Ж世9.")
    assert dict(found.scripts())["Latin"] == 24
    assert {script_of(char) for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} == {"Latin"}
    assert [script_of(char) for char in "Ж世é9.\n\t🚀\u0301\u00a0$\x07"] == [
        "Cyrillic",
        "Cjk",
        "Latin",
        "digits",
        "punctuation",
        "newlines",
        "tabs",
        "symbols and emoji",
        "marks",
        "spaces",
        "signs",
        "control and format characters",
    ]


def test_english_may_be_spelt_in_ascii_and_russian_not():
    assert advice(ENGLISH * 50) == {"clean.charset": "ascii"}
    assert advice("Все люди рождаются свободными и равными. " * 50)["clean.charset"] == "unicode"


def test_lines_cut_within_words_are_joined():
    text = ENGLISH.replace("\n", " ") * 200
    cut = "\n".join(text[at : at + 129] for at in range(0, len(text), 129))
    assert advice(cut)["clean.keep_newlines"] == "false"
    assert "clean.keep_newlines" not in advice(ENGLISH * 50)
    rows = [f"{number:06d}" * 10 for number in range(100)]  # documents of one line are as long, and nothing is cut
    assert "clean.keep_newlines" not in advice(*rows)


@pytest.mark.parametrize(
    ("text", "key"), [("def f(x):\n\treturn x\n", "clean.keep_tabs"), ("a  b    c\n", "clean.whitespace")]
)
def test_what_whitespace_is_for(text, key):
    assert key in advice(text * 50)


def test_spaces_that_indent_code_are_no_reason_to_collapse_them():
    assert "clean.whitespace" not in advice("def f(x):\n        return x\n" * 50)


def test_many_short_texts_are_samples_of_their_own():
    said = advice(*(f"message {number}" * (number % 9 + 1) for number in range(600)))
    assert said["split.samples"] == "documents"
    assert said["split.buckets"] == "auto"
    assert said["split.by"] == "document"


def test_of_a_long_text_less_is_measured_on():
    assert advice(ENGLISH * 400_000)["split.train_fraction"] == "0.9537"

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.cleaned import clean_documents, write_changes
from pipeline.corpus.cleaning import Changes, clean, make_table
from pipeline.corpus.documents import Document, read_rows, write_documents
from pipeline.errors import UserError
from pipeline.params.clean import CleanParams

TUTORIAL = CleanParams(charset="ascii", keep_newlines=False)


def cleaned(text, params):
    return clean(text, params, make_table(params))


def test_the_tutorials_rule():
    assert cleaned("Café — “naïve”\t…\x0c\nend", TUTORIAL) == 'Cafe - "naive"...end'


def test_newlines_and_case_are_options():
    assert cleaned("A\nB", CleanParams(keep_newlines=True)) == "A\nB"
    assert cleaned("A\nB", CleanParams(lowercase=True)) == "a\nb"


def test_unicode_keeps_every_script():
    params = CleanParams(charset="unicode")
    assert cleaned("Приве\u0301т\u00a0世界\x07", params) == "Приве\u0301т 世界"
    assert cleaned("e\u0301", params) == "é"
    assert cleaned("👩\u200d🚀", params) == "👩\u200d🚀"


def test_changes_are_counted_by_character():
    changes = Changes()
    clean("éé\t\ta", TUTORIAL, make_table(TUTORIAL), changes)
    assert (changes.replaced, changes.dropped) == ({"é": 2}, {"\t": 2})


PARAMS = st.builds(
    CleanParams, charset=st.sampled_from(["ascii", "unicode"]), keep_newlines=st.booleans(), lowercase=st.booleans()
)


@given(st.text(max_size=60), PARAMS)
def test_cleaning_clean_text_changes_nothing(text, params):
    once = cleaned(text, params)
    assert cleaned(once, params) == once


@given(st.text(max_size=60))
def test_ascii_is_printable_ascii(text):
    assert all(" " <= char <= "~" for char in cleaned(text, TUTORIAL))


def test_documents_join_to_the_stream_with_their_separators(tmp_path: Path):
    rows = [Document("a", "one\t"), Document("b", "\t"), Document("c", "two")]
    write_documents(tmp_path / "raw", rows)
    changes = Changes()
    figures = clean_documents(tmp_path / "raw", tmp_path / "clean", CleanParams(), changes)
    assert [row["text"] for row in read_rows(tmp_path / "clean")] == ["one", "\ntwo"]
    assert figures == {
        "documents": 2,
        "empty_documents": 1,
        "characters_before": 8,
        "characters": 7,
        "replaced": 0,
        "dropped": 2,
        "composed": 0,
    }
    write_changes(tmp_path / "changes.csv", changes, CleanParams())
    assert (tmp_path / "changes.csv").read_text() == "codepoint,character,became,count\nU+0009,,,2\n"


def test_nothing_left_is_refused(tmp_path: Path):
    write_documents(tmp_path / "raw", [Document("a", "\t\t")])
    with pytest.raises(UserError, match=r"clean.charset: ascii leaves nothing of 2 characters"):
        clean_documents(tmp_path / "raw", tmp_path / "clean", CleanParams(), Changes())

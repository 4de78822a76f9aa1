import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from conftest import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cleaning import clean_documents as cleaned_module
from pipeline.cleaning.clean_documents import clean_documents, figures, write_changes
from pipeline.cleaning.rules import Cleaner, FragileCharacters, normalised
from pipeline.core.errors import UserError
from pipeline.params.text import CleanParams
from pipeline.text.documents import schema_of
from pipeline.text.shards import read_batches, shard_writer

TUTORIAL = CleanParams(charset="ascii", keep_newlines=False)
UNICODE = CleanParams(charset="unicode")

# What rules depend on: marks that compose, Hangul's parts, spaces of all kinds, controls, signs that NFKC takes
# apart, capitals whose small letters are two characters.
TRICKY = st.text(
    st.sampled_from(
        "aAeE \n\t\u00a0\u3000\u0301\u0323\u1100\u1161\u11a8가ﬁ①K İß\x00\x02\x03\x85\u2028\ufffd世👩\u200d\u00b4ẛ̣Σϴ"
    )
)
TEXT = st.one_of(TRICKY, st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
PARAMS = st.builds(
    dict,
    charset=st.sampled_from(["ascii", "unicode"]),
    normalize=st.sampled_from(["nfc", "nfkc"]),
    keep_newlines=st.booleans(),
    keep_tabs=st.booleans(),
    lowercase=st.booleans(),
    whitespace=st.sampled_from(["keep", "collapse"]),
    control=st.sampled_from(["drop", "space", "keep"]),
    min_count=st.sampled_from([0, 2, 5]),
    duplicates=st.sampled_from(["drop", "keep"]),
).filter(lambda p: p["charset"] == "unicode" or (p["normalize"] == "nfc" and p["control"] != "keep"))


def cleaned(text, params):
    rows = pa.array([text], pa.large_string())
    one = np.array([True])
    return Cleaner(params).clean(rows, one, one)[0].to_pylist()[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders a call."""

    def make():
        place = tmp_path_factory.mktemp("clean")
        (place / "raw").mkdir()
        (place / "clean").mkdir()
        return place / "raw", place / "clean"

    return make


def clean_all(folders, texts, params, **options):
    """Clean documents through files; returns the retained texts, in order, and the result."""
    raw, clean = folders()
    with shard_writer(raw, schema_of()) as writer:
        for batch in tables(*texts, **options)():
            writer.write(batch.drop_columns(["chars"]))
    result = clean_documents(raw, clean, params)
    joined, retained = "", []
    for batch in read_batches(clean):
        for text, last in zip(batch.column("text").to_pylist(), batch.column("last").to_pylist(), strict=True):
            joined += text
            if last:
                retained.append(joined)
                joined = ""
    return retained, result


def test_the_tutorials_rule():
    assert cleaned("Café — “naïve”\t…\x0c\nend", TUTORIAL) == 'Cafe - "naive"...end'


def test_newlines_tabs_and_case_are_options():
    assert cleaned("A\n\tB", CleanParams(keep_newlines=True)) == "A\nB"
    assert cleaned("A\n\tB", CleanParams(keep_tabs=True)) == "A\n\tB"
    assert cleaned("A\nB", CleanParams(lowercase=True)) == "a\nb"


def test_unicode_keeps_every_script():
    assert cleaned("Приве\u0301т\u00a0世界\x07", UNICODE) == "Приве\u0301т 世界"
    assert cleaned("e\u0301", UNICODE) == "é"
    assert cleaned("👩\u200d🚀", UNICODE) == "👩\u200d🚀"
    assert cleaned("ﬁ①", UNICODE) == "ﬁ①"
    assert cleaned("ﬁ①", CleanParams(charset="unicode", normalize="nfkc")) == "fi1"


def test_control_characters_are_dropped_become_a_space_or_stay():
    text = "a\x07b\u2028c\x02d"
    assert cleaned(text, UNICODE) == "abcd"
    assert cleaned(text, CleanParams(charset="unicode", control="space")) == "a b c d"
    # The marks of a document's begin and end are never text.
    assert cleaned(text, CleanParams(charset="unicode", control="keep")) == "a\x07b\u2028cd"


def test_whitespace_collapses():
    params = CleanParams(whitespace="collapse", keep_tabs=True)
    assert cleaned("  a \t b  \n\n \n\n c \n", params) == "a b\n\nc"
    assert cleaned("\n\na\nb", params) == "a\nb"


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_long_documents_are_cleaned_as_whole_ones(folders, most):
    text = "  One  two\n\n\n\nthre\u0301e   four \n" * 3
    params = CleanParams(charset="unicode", whitespace="collapse")
    whole, _ = clean_all(folders, [text], params)
    assert whole == [cleaned(text, params)]
    if most > 5:  # below that there is no suitable place for a cut
        assert clean_all(folders, [text], params, most=most)[0] == whole


@given(TEXT, PARAMS)
@settings(max_examples=400)
def test_cleaning_clean_text_changes_nothing(text, params):
    params = CleanParams.model_validate(params)
    once = cleaned(text, params)
    assert cleaned(once, params) == once


@given(st.lists(TRICKY, min_size=1, max_size=6), PARAMS)
@settings(max_examples=150)
def test_cleaning_a_clean_corpus_changes_nothing(folders, texts, params):
    params = CleanParams.model_validate(params)
    try:
        once, _ = clean_all(folders, texts, params)
    except UserError:
        return  # no text is left
    again, result = clean_all(folders, once, params)
    assert again == once
    numbers = figures(result, params)
    assert not any(
        numbers[rule] for rule in ("replaced", "dropped", "composed", "collapsed", "rare", "duplicate_documents")
    )


@given(TEXT)
def test_ascii_is_printable_ascii(text):
    assert all(" " <= char <= "~" for char in cleaned(text, TUTORIAL))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["NFC", "NFKC"]))
def test_a_text_without_fragile_characters_is_normalised(text, form):
    """Most texts need no normalisation for this reason."""
    codes = np.array(sorted(set(map(ord, text))), dtype=np.int64)
    if not FragileCharacters(form).among(codes):
        assert unicodedata.is_normalized(form, text)
        assert unicodedata.is_normalized(form, text.lower()) or "\u03a3" in text
    rows = pa.array([text], pa.large_string())
    assert normalised(rows, form).to_pylist() == [unicodedata.normalize(form, text)]


def test_the_changes_of_every_rule_are_counted(folders, tmp_path):
    params = CleanParams(charset="unicode", whitespace="collapse", lowercase=True, min_count=2)
    texts = ["A  be\u0301e\u0301\x07", "", "a be\u0301e\u0301", "aa\u00a0bb x"]
    retained, result = clean_all(folders, texts, params)
    assert retained == ["a béé", "aa bb \ufffd"]
    assert figures(result, params) == {
        "documents": 2,
        "empty_documents": 1,
        "duplicate_documents": 1,
        "characters_before": sum(map(len, texts)),
        "characters": sum(map(len, retained)),
        "replaced": 2,
        "dropped": 1,
        "composed": 4,
        "collapsed": 1,
        "rare": 1,
        "rare_characters": 1,
    }
    write_changes(tmp_path / "changes.csv", result, params)
    table = (tmp_path / "changes.csv").read_text().splitlines()
    assert table[0] == "codepoint,character,became,count,rule"
    assert "U+0041,A,a,1,lowercase" in table
    assert "U+0007,,,1,control" in table
    assert "U+00A0,, ,1,charset" in table
    assert "U+0078,x,\ufffd,1,min_count" in table


def test_only_the_first_of_duplicates_is_retained(folders):
    long = "word " * 40
    texts = ["one", long, "two", "one\t", long, "three", long + "\x07", "one"]
    for most in (10, 1000):
        retained, result = clean_all(folders, texts, CleanParams(), most=most, at_once=3)
        assert retained == ["one", long, "two", "three"]
        assert result.stats.duplicates == 4
    assert len(clean_all(folders, texts, CleanParams(duplicates="keep"))[0]) == len(texts)


def test_long_documents_without_text_are_dropped(folders):
    retained, result = clean_all(folders, ["\x07\x08" * 20, "a"], CleanParams(), most=9)
    assert retained == ["a"]
    assert result.stats.empty == 1


def test_a_long_run_of_whitespace_collapses_wherever_a_document_is_cut(folders):
    params = CleanParams(whitespace="collapse")
    text = "word " * 200_000 + " \x07" * 1_000_000 + "\n" * 200_000 + "end"
    for most in (2_300_000, 2_999_000, 3_100_000):
        assert clean_all(folders, [text], params, most=most)[0] == ["word " * 199_999 + "word\n\nend"]


def test_no_second_table_is_left_when_replacing_rare_characters_fails(folders, monkeypatch):
    made = []
    real = cleaned_module.schema_in

    def second_time(folder):
        made.append(folder)
        if len(made) > 1:
            raise KeyboardInterrupt
        return real(folder)

    monkeypatch.setattr(cleaned_module, "schema_in", second_time)
    with pytest.raises(KeyboardInterrupt):
        clean_all(folders, ["aaab"], CleanParams(min_count=2))
    assert not made[1].exists()


def test_the_table_of_changes(folders, tmp_path):
    _, result = clean_all(folders, ["éé\t\ta"], TUTORIAL)
    write_changes(tmp_path / "changes.csv", result, TUTORIAL)
    assert (tmp_path / "changes.csv").read_text() == (
        "codepoint,character,became,count,rule\nU+0009,,,2,keep_tabs\nU+00E9,é,e,2,charset\n"
    )


def test_cleaning_that_leaves_no_text_is_refused(folders):
    with pytest.raises(UserError, match=r"clean: its rules .charset ascii. leave none of 2 characters"):
        clean_all(folders, ["\t\t"], CleanParams())


def test_several_threads_can_learn_replacements_at_once(folders):
    """The replacements outgrow the buffer, and two threads add to it at once."""
    texts = ["".join(chr(0x4E00 + (i * 37 + j) % 9000) for j in range(500)) for i in range(60)]
    retained, _ = clean_all(folders, texts, CleanParams(duplicates="keep"), at_once=1)
    assert retained == [cleaned(text, CleanParams()) for text in texts]

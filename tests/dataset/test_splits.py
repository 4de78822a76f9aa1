import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import tables

from pipeline.core.errors import UserError
from pipeline.dataset.arrays import array_writer, load_array
from pipeline.dataset.build_splits import build_splits
from pipeline.dataset.dictionary import UNKNOWN, Dictionary
from pipeline.dataset.splits import load_split
from pipeline.params.text import SplitParams


def build(folder, given_tables, **params):
    folder.mkdir()
    return build_splits(given_tables, folder, SplitParams(**params))


def texts_of(folder):
    """The text of every side, ends shown as brackets."""
    dictionary = Dictionary.load(folder / "dictionary.json")
    sides = (folder / name for name in ("train", "eval", "test"))
    shown = str.maketrans({"\u2402": "[", "\u2403": "]"})
    return [dictionary.decode(load_split(side).ids).translate(shown) for side in sides if side.exists()]


def test_the_text_is_cut_before_bucketing(tmp_path, text):
    figures = build(tmp_path / "s", tables(text), buckets=(10, 30))
    at = round(len(text) * 0.9)
    assert texts_of(tmp_path / "s") == [text[:at], text[at:]]
    assert figures["eval_sha256"] == hashlib.sha256(text[at:].encode()).hexdigest()
    assert (figures["train_chars"], figures["eval_chars"]) == (at, len(text) - at)


def test_the_arrays_are_small_and_memory_mapped(tmp_path, text):
    build(tmp_path / "s", tables(text))
    ids = load_split(tmp_path / "s/train").ids
    assert isinstance(ids, np.memmap)
    assert ids.dtype == np.uint8


@pytest.mark.parametrize("samples", ["stream", "documents", "lines"])
def test_rows_and_batches_do_not_affect_the_result(tmp_path, text, samples):
    params = {"samples": samples, "buckets": (10, 30)}
    documents = [text[:1500], text[100:2500], text[:40], text[:250], text[:99]]
    assert build(tmp_path / "a", tables(*documents), **params) == build(
        tmp_path / "b", tables(*documents, most=50, at_once=7), **params
    )
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) >= 5
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_documents_of_a_stream_are_separated(tmp_path):
    build(tmp_path / "s", tables("aaaa", "bbbb", "cc"), train_fraction=0.5)
    assert texts_of(tmp_path / "s") == ["aaaa\nb", "bbb\ncc"]


def test_three_sides(tmp_path):
    figures = build(tmp_path / "s", tables("abcdefghij" * 2), train_fraction=0.6, test_fraction=0.2)
    assert texts_of(tmp_path / "s") == ["abcdefghijab", "cdef", "ghij"]
    assert [figures[f"{side}_chars"] for side in ("train", "eval", "test")] == [12, 4, 4]
    assert len({figures[f"{side}_sha256"] for side in ("train", "eval", "test")}) == 3


def test_documents_are_between_begin_and_end_symbols_and_never_cut(tmp_path):
    figures = build(
        tmp_path / "s", tables("abc", "de", "fghi", "jk"), samples="documents", buckets=(3, 5), train_fraction=0.5
    )
    assert texts_of(tmp_path / "s") == ["[abc][de][fghi]", "[jk]"]
    split = load_split(tmp_path / "s/train")
    assert split.documents.tolist() == [0, 5, 9]
    assert {length: samples.rows(np.arange(len(samples))).tolist() for length, samples in split.buckets.items()} == {
        3: [[5, 3]],
        5: [[0, 4], [9, 5]],
    }
    assert (figures["train_documents"], figures["train_chars"], figures["characters"]) == (3, 9, 11)
    assert figures["padding"] == pytest.approx(1 - 12 / 13, abs=1e-6)


def test_lines_are_documents_except_empty_ones(tmp_path):
    build(tmp_path / "s", tables("a\n\nbb\nc", "\nd\n", "ee\nff"), samples="lines", buckets=(4,), train_fraction=0.6)
    assert texts_of(tmp_path / "s") == ["[a][bb][c][d]", "[ee][ff]"]
    assert "\n" not in Dictionary.load(tmp_path / "s/dictionary.json").characters


@given(
    st.lists(st.text("ab\n", max_size=12), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0.1, 0.9),
    st.floats(0, 0.5),
)
def test_lines_are_cut_at_the_first_that_begins_after_the_border(tmp_path_factory, texts, most, at_once, train, test):
    folder = tmp_path_factory.mktemp("lines")
    params = {"train_fraction": train, "test_fraction": test} if train + test < 1 else {"train_fraction": train}
    total = sum(map(len, texts))
    borders = [round(total * train), max(total - round(total * params.get("test_fraction", 0)), round(total * train))]
    expected, at = ["", "", ""], 0
    for text in texts:
        for line in text.split("\n"):
            side = sum(border <= at for border in borders)
            expected[side] += f"[{line}]" if line else ""
            at += len(line) + 1
        at -= 1
    try:
        build(folder / "s", tables(*texts, most=most, at_once=at_once), samples="lines", buckets=(3,), **params)
    except UserError:
        return  # not enough text on one side
    assert texts_of(folder / "s") == [one for one in expected if one]


NAMES = [f"document {number}" for number in range(300)]


def sides_of(folder, names, **params):
    """Which side each document is on, by its text, which is its name."""
    build(folder, tables(*names, author=[name[:10] for name in names]), samples="documents", buckets=(30,), **params)
    sides = texts_of(folder)
    return {name: next(side for side, text in enumerate(sides) if f"[{name}]" in text) for name in names}


def test_new_documents_do_not_move_others_to_another_side(tmp_path):
    params = {"by": "document", "train_fraction": 0.6, "test_fraction": 0.2}
    few = sides_of(tmp_path / "few", NAMES[:200], **params)
    many = sides_of(tmp_path / "many", NAMES, **params)
    assert {name: many[name] for name in few} == few
    assert [
        abs(list(many.values()).count(side) / 300 - share) < 0.08 for side, share in enumerate((0.6, 0.2, 0.2))
    ] == [True] * 3
    # A larger training side includes the smaller one.
    more = sides_of(tmp_path / "more", NAMES, by="document", train_fraction=0.7, test_fraction=0.2)
    assert all(more[name] == 0 for name, side in many.items() if side == 0)


def test_documents_of_a_group_stay_together(tmp_path):
    sides = sides_of(tmp_path / "s", NAMES, by="document", group_by="author", train_fraction=0.6)
    for group in {name[:10] for name in NAMES}:
        assert len({side for name, side in sides.items() if name[:10] == group}) == 1
    assert len(set(sides.values())) == 2


def test_a_document_without_a_group_is_a_group_by_itself(tmp_path):
    texts = [f"{number:02}" for number in range(40)]
    build(
        tmp_path / "s", tables(*texts, group=["a"] + [None] * 39), by="document", group_by="group", train_fraction=0.5
    )
    assert all(len(text) > 10 for text in texts_of(tmp_path / "s"))


def test_by_a_column(tmp_path):
    documents = tables("aa", "bb", "cc", "dd", year=[2007, 2009, 2008, 2012], set=["train", "dev", "test", "train"])
    build(tmp_path / "year", documents, by="column", column="year", train_until=2008)
    assert texts_of(tmp_path / "year") == ["aa\ncc", "bb\ndd"]
    build(tmp_path / "two", documents, by="column", column="year", train_until=2008, eval_until=2010)
    assert texts_of(tmp_path / "two") == ["aa\ncc", "bb", "dd"]
    build(tmp_path / "set", documents, by="column", column="set", samples="documents", buckets=(9,))
    assert texts_of(tmp_path / "set") == ["[aa][dd]", "[bb]", "[cc]"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"column": "yaer"}, r"split.column: no column 'yaer' in the documents; there are document, year, set"),
        ({"column": "year", "train_until": "2008"}, r"split.train_until: found '2008', but year has numbers"),
        ({"column": "set", "train_until": 3}, r"split.train_until: found 3, but set has text"),
        ({"column": "set"}, r"split.column: set has 'tset'; allowed are train, eval"),
        ({"column": "half", "train_until": 1}, r"split.column: document 'document 1' has no half"),
        ({"column": "nan", "train_until": 1}, r"split.column: document 'document 1' has no nan"),
        ({"column": "flag", "train_until": 0}, r"split.train_until: found 0, but flag has true and false"),
        ({"column": "year", "train_until": 3000}, r"split.train_until: 3000 of .* leaves 0 for the eval text"),
        ({"column": "year", "train_until": 2**70}, r"split.train_until: 11805916.* leaves 0 for the eval text"),
        ({"column": "year", "train_until": 0}, r"split.train_until: 0 of .* leaves 0 for the training text"),
    ],
)
def test_an_unsuitable_column_is_reported(tmp_path, params, message):
    documents = tables(
        "aa", "bb", year=[2007, 2009], set=["train", "tset"], half=[1, None], nan=[1.0, math.nan], flag=[True, False]
    )
    with pytest.raises(UserError, match=message):
        build(tmp_path / "s", documents, by="column", **params)


def test_a_dictionary_of_the_training_text_has_an_unknown_symbol(tmp_path):
    build(tmp_path / "s", tables("ab" * 50 + "c" * 5 + "ab"), train_fraction=0.9, dictionary_from="train")
    assert Dictionary.load(tmp_path / "s/dictionary.json").characters == ("a", "b")
    assert (load_split(tmp_path / "s/eval").ids == UNKNOWN).sum() == 5


def test_the_sign_of_the_unknown_symbol_in_a_text_is_that_symbol(tmp_path):
    build(tmp_path / "s", tables("ab\ufffd" * 20))
    dictionary = Dictionary.load(tmp_path / "s/dictionary.json")
    assert (dictionary.characters, dictionary.unknown) == (("a", "b"), True)
    assert (load_split(tmp_path / "s/train").ids == UNKNOWN).sum() == 18


def test_a_large_alphabet_takes_two_bytes(tmp_path):
    build(tmp_path / "s", tables("".join(map(chr, range(0x4E00, 0x4E00 + 400))) * 2))
    assert load_split(tmp_path / "s/train").ids.dtype == np.uint16


def test_auto_chooses_buckets_by_the_training_documents(tmp_path):
    figures = build(
        tmp_path / "s", tables(*["x" * 9] * 20, *["y" * 39] * 20), samples="documents", buckets="auto", by="document"
    )
    assert figures["buckets"] == [10, 40]
    assert figures["padding"] == 0
    assert build(tmp_path / "t", tables("x" * 900), buckets="auto")["train_chars"] == 810
    assert set(load_split(tmp_path / "t/train").buckets) == {32}


def test_a_text_too_short_to_cut_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"split.train_fraction: 0.9 of 5 characters leaves"):
        build(tmp_path / "s", tables("short"))


@pytest.mark.parametrize("name", ["ids.npy", "samples.json"])
def test_a_damaged_split_is_reported(split_folder, name):
    path = split_folder / "train" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=name):
        load_split(split_folder / "train")


@pytest.mark.parametrize("width", [None, 2])
def test_arrays_are_written_row_by_row(tmp_path, width):
    rows = np.arange(20, dtype=np.uint16).reshape(-1, 2) if width else np.arange(20, dtype=np.uint16)
    with array_writer(tmp_path / "a.npy", np.uint16, width=width) as writer:
        writer.append(rows[:3])
        writer.append(rows[3:])
    assert np.array_equal(load_array(tmp_path / "a.npy", width=width), rows)
    with array_writer(tmp_path / "empty.npy", np.uint8, width=width):
        pass
    assert load_array(tmp_path / "empty.npy", width=width).shape == ((0, 2) if width else (0,))

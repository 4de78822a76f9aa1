"""Measures the clean documents and the splits: the small tables that the contracts check.

Documents and ids are read in batches and chunks, so memory hardly grows with the text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.arrays import Samples, chunks_of, chunks_of_samples
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.sides import NAMES, TRAIN
from pipeline.dataset.splits import Split
from pipeline.params.text import SplitParams
from pipeline.text.documents import SeenTexts, flags, hash_texts
from pipeline.validation.coverage import READ, Covered, within

COLUMNS = ("document", "part", "last", "text")


@dataclass(frozen=True)
class TextSize:
    """The size of the clean text: documents, characters, and how many of these are newlines."""

    documents: int
    chars: int
    newlines: int


def document_facts(shards: Iterable[tuple[str, Iterable[pa.RecordBatch]]]) -> pd.DataFrame:
    """Return one row per shard; `shards` are their names and their batches with COLUMNS, in order.

    Columns: shard, documents (that begin in it), chars, newlines; the numbers of documents that are unnamed, repeated
    (have the name of an earlier one), empty (no characters) or broken (their rows are not parts 0, 1, … with `last` set
    in the last one only); without_text (rows whose text is null). A fault counts in the shard where it is found.

    Names are compared by 64-bit hashes, 16 to 32 bytes per document: the only memory that grows with the corpus.
    """
    counter = _Counter()
    facts = pd.DataFrame(
        [{"shard": name, **counter.count(batches)} for name, batches in shards], columns=["shard", *FIGURES]
    )
    if counter.is_open:
        facts.loc[facts.index[-1], "broken"] += 1
    return facts


def size_of(facts: pd.DataFrame) -> TextSize:
    """Return the size of all documents together, from the table of `document_facts`."""
    return TextSize(**{name: int(facts[name].sum()) for name in ("documents", "chars", "newlines")})


FIGURES = (
    "documents",
    "chars",
    "newlines",
    "unnamed",
    "repeated",
    "without_text",
    "empty",
    "broken",
)


class _Counter:
    """Counts over batches. It remembers the length of the unfinished document and its next part (0: a new document)."""

    def __init__(self) -> None:
        self.seen = SeenTexts()
        self._chars = 0
        self._next = 0

    @property
    def is_open(self) -> bool:
        """Whether the last document is unfinished."""
        return self._next > 0

    def count(self, batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
        """Return the figures of one shard."""
        figures = dict.fromkeys(FIGURES, 0)
        for batch in batches:
            if batch.num_rows:
                self._add(batch, figures)
        return figures

    def _add(self, batch: pa.RecordBatch, figures: dict[str, int]) -> None:
        text = batch.column("text")
        chars = np.asarray(pc.fill_null(pc.utf8_length(text), 0)).astype(np.int64)
        part, last = np.asarray(batch.column("part")).astype(np.int64), flags(batch.column("last"))
        first = part == 0
        names = pc.fill_null(batch.column("document").filter(pa.array(first)).cast(pa.large_string()), "")
        figures["documents"] += int(first.sum())
        figures["chars"] += int(chars.sum())
        figures["newlines"] += pc.sum(pc.count_substring(text, "\n")).as_py() or 0
        figures["without_text"] += text.null_count
        named = names.filter(pc.greater(pc.binary_length(names), 0))
        figures["unnamed"] += len(names) - len(named)
        figures["repeated"] += int((~self.seen.add(hash_texts(named))).sum())
        wanted = np.append(self._next, np.where(last, 0, part + 1)[:-1])
        figures["broken"] += int((part != wanted).sum())
        self._next = 0 if last[-1] else int(part[-1]) + 1
        figures["empty"] += int((self._lengths(chars, last) == 0).sum())

    def _lengths(self, chars: npt.NDArray[np.int64], last: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the length in characters of each document that ends in these rows, int64 [n]."""
        upto = self._chars + np.cumsum(chars)
        ends = upto[last]
        self._chars = int(upto[-1] - (ends[-1] if len(ends) else 0))
        return np.diff(ends, prepend=0)


Counts = Mapping[str, npt.NDArray[np.int64]]
Splits = Mapping[str, Split]


def text_facts(size: TextSize, splits: Splits, params: SplitParams) -> pd.DataFrame:
    """Return one row that compares the clean text with the splits.

    Columns: documents, clean_chars, split_chars (without begin and end symbols), lost_chars (how far split_chars is
    from the expected number: clean_chars, plus the separators between the documents of a stream, or minus the newlines
    if samples are lines).
    """
    bounded = params.samples != "stream"
    found = sum(map(num_chars, splits.values()))
    if params.samples == "lines":
        wanted = size.chars - size.newlines
    else:
        streams = 1 if params.by == "position" else len(splits)
        wanted = size.chars + (0 if bounded else size.documents - streams)
    row = {"documents": size.documents, "clean_chars": size.chars, "split_chars": found}
    return pd.DataFrame([{**row, "lost_chars": abs(found - wanted)}])


def dictionary_facts(dictionary: Dictionary, counts: Counts) -> pd.DataFrame:
    """Return one row per id. `counts` maps the name of each split to its ids' frequencies, int64 [at least all ids].

    Columns: id, symbol (the character, or a longer name), is_character, rises (sorts after the previous character), a
    count per split, total, idle (a character that never occurs in the text).
    """
    codes = [ord(symbol) for symbol in dictionary.symbols]
    first = dictionary.first_id
    names = [
        f"symbol {number}" for number in range(first)
    ]  # the characters that represent them may also occur in the text
    table = pd.DataFrame(
        {
            "id": range(len(dictionary)),
            "symbol": [*names, *dictionary.characters],
            "is_character": [i >= first for i in range(len(dictionary))],
            "rises": [i <= first or codes[i] > codes[i - 1] for i in range(len(codes))],
        }
    )
    for name, found in counts.items():
        table[name] = found[: len(dictionary)]
    table["total"] = table[list(counts)].sum(axis=1)
    table["idle"] = table["is_character"] & (table["total"] == 0)
    return table


def split_facts(
    splits: Splits,
    counts: Counts,
    covered: Mapping[str, Covered],
    overlaps: Mapping[str, float],
    *,
    copies: Mapping[str, int],
    size: TextSize,
    params: SplitParams,
) -> pd.DataFrame:
    """Return one row per split.

    Columns: split, ids, chars (without begin and end symbols), documents, samples, min_id, max_id, misplaced_chars (see
    `misplaced`), unlabelled, repeated, labelled_begins, unbounded (see `Covered`), overlap (share of its substrings
    that occur in the training text) and copied_documents (documents whose whole text is also a training document);
    the last two are 0 for train itself.
    """
    shares = dict(zip(NAMES, (params.train_fraction, _eval_fraction(params), params.test_fraction), strict=True))
    total, longest = sum(map(num_chars, splits.values())), max(map(longest_document, splits.values()))
    rows = []
    for name, split in splits.items():
        used = np.flatnonzero(counts[name])
        rows.append(
            {
                "split": name,
                "ids": len(split.ids),
                "chars": num_chars(split),
                "documents": 0 if split.documents is None else len(split.documents),
                "samples": split.num_samples,
                "min_id": int(used.min(initial=len(counts[name]))),
                "max_id": int(used.max(initial=0)),
                "misplaced_chars": misplaced(
                    num_chars(split), total * shares[name], params, longest=longest, newlines=size.newlines
                ),
                "unlabelled": covered[name].unlabelled,
                "repeated": covered[name].repeated,
                "labelled_begins": covered[name].labelled_begins,
                "unbounded": covered[name].unbounded,
                "overlap": 0.0 if name == NAMES[TRAIN] else overlaps[name],
                "copied_documents": copies.get(name, 0),
            }
        )
    return pd.DataFrame(rows)


def misplaced(chars: int, wanted: float, params: SplitParams, *, longest: int, newlines: int) -> int:
    """Return by how many characters a split of `chars` is further from the `wanted` size than its rule can explain.

    A stream is cut between any two characters. Documents and lines belong to the split in which they begin, so the cut
    is off by less than the `longest` of them; `newlines` between lines are in no split, and all of them could have been
    in this one. Only `by: position` has a wanted size: with a hash or a column any size is right, and 0 is returned.
    """
    if params.by != "position":
        return 0
    return max(round(abs(chars - wanted)) - 1 - longest - (newlines if params.samples == "lines" else 0), 0)


def bucket_facts(splits: Splits, covered: Mapping[str, Covered]) -> pd.DataFrame:
    """Return one row per split and bucket.

    Columns: split, bucket, samples, positions (labels without padding), padding (share of the bucket's places that are
    padding), out_of_range (samples that reach beyond the text or their bucket), out_of_order (samples that start before
    the previous one), misplaced_labels (places in its batches whose input or label is not that of the text).
    """
    return pd.DataFrame(
        [
            {
                "split": name,
                "bucket": bucket,
                "samples": len(samples),
                **_sample_figures(samples, bucket, len(split.ids)),
                "misplaced_labels": covered[name].misplaced_labels[bucket],
            }
            for name, split in splits.items()
            for bucket, samples in split.buckets.items()
        ]
    )


def num_chars(split: Split) -> int:
    """Return the number of characters in `split`, without begin and end symbols."""
    return len(split.ids) - (0 if split.documents is None else 2 * len(split.documents))


def longest_document(split: Split) -> int:
    """Return the length in characters of the longest document (or line) of `split`; 0 for a stream."""
    longest = 0
    if split.documents is not None:
        before = split.documents[:1]
        for chunk in chunks_of(split.documents):
            longest = max(longest, int(np.diff(chunk, prepend=before).max()))
            before = np.array(chunk[-1:])
        longest = max(longest, len(split.ids) - int(before[0]) if len(before) else 0)
    return max(longest - 2, 0)


def _eval_fraction(params: SplitParams) -> float:
    return 1 - params.train_fraction - params.test_fraction


def _sample_figures(samples: Samples, bucket: int, num_ids: int) -> dict[str, float]:
    positions = out_of_range = out_of_order = 0
    before = np.empty(0, dtype=np.int64)
    for rows in chunks_of_samples(samples, READ):
        starts = np.concatenate([before, rows[:, 0]])
        positions += int(rows[:, 1].sum())
        out_of_range += int((~within(rows, bucket, num_ids)).sum())
        out_of_order += int((starts[1:] < starts[:-1]).sum())
        before = starts[-1:]
    padding = 1 - positions / (len(samples) * bucket) if len(samples) else 0.0
    return {"positions": positions, "padding": padding, "out_of_range": out_of_range, "out_of_order": out_of_order}

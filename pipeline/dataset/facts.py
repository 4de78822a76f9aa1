"""Facts tables: what must hold of the splits, counted from the files themselves, a stretch at a time.

They are small whatever the corpus's size, so that a validation never has the text in a data frame, and they are taken
from what is on disk, so that what was checked is what trains.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.corpus.document_facts import TextSize
from pipeline.dataset.counting import chunks_of
from pipeline.dataset.coverage import Covered
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.samples import Samples, chunks_of_samples
from pipeline.dataset.sides import NAMES, TRAIN
from pipeline.dataset.splits import Split
from pipeline.dataset.stretches import READ, within
from pipeline.params.split import SplitParams

Counts = Mapping[str, npt.NDArray[np.int64]]
Splits = Mapping[str, Split]


def text_facts(size: TextSize, splits: Splits, params: SplitParams) -> pd.DataFrame:
    """Return one row: the clean text beside what the splits hold of it.

    Columns: documents, clean_chars, split_chars (without begin and end symbols), lost_chars (how many more or fewer
    these are than those of the clean text, with the separators between the documents of a stream; of lines, without the
    newlines).
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
    """Return one row per id; `counts` has how often each stands in each split, int64 [at least all ids], by its name.

    Columns: id, symbol (the character, or a name that no character has), is_character, rises (sorted after the
    character before), a count per split, total, idle (a character that the text does not have).
    """
    codes = [ord(symbol) for symbol in dictionary.symbols]
    first = dictionary.first_id
    names = [f"symbol {number}" for number in range(first)]  # their signs may be characters of a text, too
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
    """Return one row per split, of what was counted for each: its ids, what its samples cover, its overlap with train.

    Columns: split, ids, chars (without begin and end symbols), documents, samples, min_id, max_id, misplaced_chars (see
    `misplaced`), unlabelled, repeated, labelled_begins, unbounded (see `Covered`), overlap (share of its substrings
    that occur in the training text) and copied_documents (whole documents that are in it too); both 0 for train itself.
    """
    shares = dict(zip(NAMES, (params.train_fraction, _eval_fraction(params), params.test_fraction), strict=True))
    total, longest = sum(map(num_chars, splits.values())), max(map(longest_document, splits.values()))
    rows = []
    for name, split in splits.items():
        there = np.flatnonzero(counts[name])
        rows.append(
            {
                "split": name,
                "ids": len(split.ids),
                "chars": num_chars(split),
                "documents": 0 if split.documents is None else len(split.documents),
                "samples": split.num_samples,
                "min_id": int(there.min(initial=len(counts[name]))),
                "max_id": int(there.max(initial=0)),
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
    """Return by how many characters a side that has `chars` is further from the `wanted` than its rule explains.

    A stream is cut at a character. A document, or a line, is on the side where it begins, so that a border is off by
    less than the `longest`; lines have left `newlines` behind, all of which may have stood on one side. Only
    `by: position` asks for so much text: sides drawn by a hash, or said by a column, are as large as they come out, so
    that nothing of them is misplaced.
    """
    if params.by != "position":
        return 0
    return max(round(abs(chars - wanted)) - 1 - longest - (newlines if params.samples == "lines" else 0), 0)


def bucket_facts(splits: Splits, covered: Mapping[str, Covered]) -> pd.DataFrame:
    """Return one row per split and bucket.

    Columns: split, bucket, samples, positions (labels that count), padding (share of the bucket's places that are
    padding), out_of_range (samples that reach beyond the text or their bucket), out_of_order (that start before the one
    ahead of them), misplaced_labels (places in its batches that do not hold the text).
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
    """Return how many characters `split` has, without begin and end symbols."""
    return len(split.ids) - (0 if split.documents is None else 2 * len(split.documents))


def longest_document(split: Split) -> int:
    """Return how many characters the longest document of `split` has, or line; 0 of a stream."""
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

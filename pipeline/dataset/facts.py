"""Facts tables: what must hold of the data, counted from the files themselves in chunks.

They are small whatever the corpus's size, so that a validation never has the text in a data frame, and they are taken
from what is on disk, so that what was checked is what trains.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pipeline.dataset.batches import ordered_batches
from pipeline.dataset.counting import chunks_of, count_ids
from pipeline.dataset.dictionary import PADDING, Dictionary, Ids
from pipeline.dataset.samples import Samples, cut_windows
from pipeline.dataset.splits import Split

BATCH = 4096


def dictionary_facts(dictionary: Dictionary, splits: dict[str, Split]) -> pd.DataFrame:
    """Return one row per id.

    Columns: id, symbol, is_character, rises (sorted after the character before), a count per split, total, idle (a
    character that the text does not have).
    """
    codes = [ord(symbol) for symbol in dictionary.symbols]
    first = dictionary.first_id
    table = pd.DataFrame(
        {
            "id": range(len(dictionary)),
            "symbol": list(dictionary.symbols),
            "is_character": [i >= first for i in range(len(dictionary))],
            "rises": [i <= first or codes[i] > codes[i - 1] for i in range(len(codes))],
        }
    )
    for name, split in splits.items():
        table[name] = count_ids(split.ids, len(dictionary))[: len(dictionary)]
    table["total"] = table[list(splits)].sum(axis=1)
    table["idle"] = table["is_character"] & (table["total"] == 0)
    return table


def split_facts(splits: dict[str, Split], *, train_fraction: float, window: int) -> pd.DataFrame:
    """Return one row per split.

    Columns: split, chars, samples, min_id, max_id, misplaced_chars (how far the cut is from `train_fraction`),
    unlabelled (characters after the first that no sample has as a label), repeated (that several have), overlap (share
    of the split's windows of `window` ids that also stand, at a window's place, in the training split; 0 for that
    itself).
    """
    total = sum(len(split.ids) for split in splits.values())
    seen = _window_hashes(splits["train"].ids, window)
    rows = []
    for name, split in splits.items():
        wanted = round(total * (train_fraction if name == "train" else 1 - train_fraction))
        own = _window_hashes(split.ids, window) if name != "train" else seen[:0]
        unlabelled, repeated = _coverage(split)
        rows.append(
            {
                "split": name,
                "chars": len(split.ids),
                "samples": split.num_samples,
                "min_id": min((int(chunk.min()) for chunk in chunks_of(split.ids)), default=0),
                "max_id": max((int(chunk.max()) for chunk in chunks_of(split.ids)), default=0),
                "misplaced_chars": abs(len(split.ids) - wanted),
                "unlabelled": unlabelled,
                "repeated": repeated,
                "overlap": float(np.isin(own, seen).mean()) if own.size else 0.0,
            }
        )
    return pd.DataFrame(rows)


def bucket_facts(splits: dict[str, Split]) -> pd.DataFrame:
    """Return one row per split and bucket.

    Columns: split, bucket, samples, positions (labels that count), padding (share of the bucket's places that are
    padding), out_of_range (samples that reach beyond the text or their bucket), misplaced_labels (labels in the batches
    that are not the input one on).
    """
    rows = []
    for name, split in splits.items():
        for bucket, samples in split.buckets.items():
            valid = _valid(split.ids, samples, bucket)
            positions = int(samples[valid, 1].sum())
            places = int(valid.sum()) * bucket
            rows.append(
                {
                    "split": name,
                    "bucket": bucket,
                    "samples": len(samples),
                    "positions": positions,
                    "padding": 1 - positions / places if places else 0.0,
                    "out_of_range": int((~valid).sum()),
                    "misplaced_labels": _misplaced_labels(split.ids, samples[valid], bucket),
                }
            )
    return pd.DataFrame(rows)


def document_facts(rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per document, without its text: document, chars."""
    return pd.DataFrame(
        [{"document": row["document"], "chars": len(row["text"]) if row["text"] is not None else None} for row in rows],
        columns=["document", "chars"],
    )


def _coverage(split: Split) -> tuple[int, int]:
    spans = np.concatenate(
        [np.empty((0, 2), np.int64)]
        + [np.asarray(s)[_valid(split.ids, s, bucket)] for bucket, s in split.buckets.items()]
    )
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = spans.sum(axis=1)
    before = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]]) if len(ends) else ends
    covered = int(np.maximum(ends - np.maximum(spans[:, 0], before), 0).sum())
    return max(len(split.ids) - 1, 0) - covered, int(spans[:, 1].sum()) - covered


def _valid(ids: Ids, samples: Samples, bucket: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    start, length = samples[:, 0], samples[:, 1]
    return (start >= 0) & (length > 0) & (length <= bucket) & (start + length < len(ids))


def _misplaced_labels(ids: Ids, samples: Samples, bucket: int) -> int:
    wrong = 0
    offsets = np.arange(bucket, dtype=np.int64)
    for at, batch in enumerate(ordered_batches(ids, samples, bucket, BATCH)):
        own = samples[at * BATCH : (at + 1) * BATCH]
        counted = offsets < own[:, 1:]
        following = ids[np.minimum(own[:, :1] + offsets + 1, len(ids) - 1)]
        wrong += int(((batch.labels != following) & counted).sum()) + int((batch.labels[~counted] != PADDING).sum())
        wrong += int(((batch.inputs[:, 1:] != batch.labels[:, :-1]) & counted[:, 1:]).sum())
    return wrong


def _window_hashes(ids: Ids, window: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return a 64-bit hash of every window of `window` ids, in order (polynomial, modulo 2**64)."""
    samples = cut_windows(len(ids), (window,))[window]
    samples = samples[samples[:, 1] == window]
    powers = np.cumprod(np.full(window, 0x9E3779B97F4A7C15, dtype=np.uint64), dtype=np.uint64)
    parts = [
        (batch.labels.astype(np.uint64) + np.uint64(1)) * powers
        for batch in ordered_batches(ids, samples, window, BATCH)
    ]
    return np.concatenate([part.sum(axis=1, dtype=np.uint64) for part in parts]) if parts else np.empty(0, np.uint64)

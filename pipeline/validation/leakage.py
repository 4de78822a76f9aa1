"""Leakage: how much of one text stands in another, by substrings of fixed length.

A perplexity flatters if what it is measured on was trained on. Substrings of 50 are what Lee et al. 2022 (Deduplicating
Training Data Makes Language Models Better) take for a copy: in tokens there, in characters here, so also what people
repeat word for word counts. Nothing here knows what the limit is.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.threads import available_cores, ordered_map
from pipeline.dataset.arrays import chunks_of
from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.params.text import SplitParams
from pipeline.splitting.assignment import NAMES, TRAIN, side_rule
from pipeline.text.char_table import buffers, flags
from pipeline.text.text_hashes import Hashes, hash_texts, join_hashes
from pipeline.validation.kernels.substrings import add_substrings, find_substrings

LENGTH = 50
# Substrings that are looked for at most: their set takes 112 MiB then, whatever the text's size.
MOST = 4_000_000


def overlap(text: Ids, other: Ids, dictionary: Dictionary, *, length: int = LENGTH, most: int = MOST) -> float:
    """Return the share of the substrings of `text` that stand anywhere in `other`; 0 if it is too short to have one.

    Both are unsigned integers [ids]. A substring is `length` ids that follow each other, at every position, or, if
    there may be more than `most`, at every so many-th one: up to 200 million ids no copy of 100 escapes. None goes over
    the begin or the end of a document. They are compared by 64-bit hashes.
    """
    begin, end = (-1, -1) if dictionary.begin is None or dictionary.end is None else (dictionary.begin, dictionary.end)
    step = -(-max(len(text), 1) // most)
    room = 1 << max(2 * -(-len(text) // step), 64).bit_length()
    keys, counts = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.uint32)
    marks, found = np.zeros(room, dtype=np.uint8), np.zeros(room, dtype=np.bool_)
    total = 0
    for at, piece in _pieces(text, length):
        total += int(add_substrings(piece, length, begin, end, at, step, keys, counts, marks))
    if not total:
        return 0.0

    def find(piece: Ids) -> None:
        find_substrings(piece, length, begin, end, keys, marks, found)

    for _ in ordered_map(find, (piece for _, piece in _pieces(other, length)), threads=available_cores()):
        pass
    return int(counts[found].sum(dtype=np.int64)) / total


def _pieces(ids: Ids, length: int) -> Iterator[tuple[int, Ids]]:
    """Yield `ids` in pieces, each with the number of its first id: every substring is in exactly one."""
    at, before = 0, ids[:0]
    for chunk in chunks_of(ids):
        piece = np.concatenate([before, chunk])
        yield at, piece
        before = piece[max(len(piece) - length + 1, 0) :]
        at += len(piece) - len(before)


def copied_documents(batches: Iterable[pa.RecordBatch], params: SplitParams, *, total: int) -> dict[str, int]:
    """Return for each side but train how many of its documents have the text of a document of train.

    `batches` are the clean documents, of together `total` characters. A split that cuts through documents
    (`by: position` of a stream or of lines) has no document on two sides: its overlap says what is copied. Texts are
    compared by 64-bit hashes, 8 bytes for each document.
    """
    if params.by == "position" and params.samples != "documents":
        return {}
    hashes: list[list[Hashes]] = [[] for _ in NAMES]
    for found, sides in _documents(batches, params, total):
        for side in range(len(NAMES)):
            hashes[side].append(found[sides == side])
    by_side = [np.concatenate([np.empty(0, dtype=np.uint64), *parts]) for parts in hashes]
    train = np.unique(by_side[TRAIN])
    return {name: int(np.isin(by_side[side], train).sum()) for side, name in enumerate(NAMES) if side != TRAIN}


def _documents(
    batches: Iterable[pa.RecordBatch], params: SplitParams, total: int
) -> Iterator[tuple[Hashes, npt.NDArray[np.int8]]]:
    """Yield for each batch the hashes of the documents that end in it and have text, uint64 [n], and their sides."""
    rule = side_rule(params, total=total)
    begun, size = 0, 0  # hash and bytes of the rows so far of a document that has not ended
    for batch in batches:
        sides, last = rule(batch), flags(batch.column("last"))
        part = np.asarray(batch.column("part"))
        hashes, sizes = hash_texts(batch.column("text")), np.diff(buffers(batch.column("text"))[1])
        for row in np.flatnonzero(~last | (part > 0)).tolist():
            if part[row] == 0:
                begun, size = 0, 0
            begun, size = join_hashes(begun, int(hashes[row]), int(sizes[row])), size + int(sizes[row])
            hashes[row], sizes[row] = begun, size
        whole = last & (sizes > 0)
        yield hashes[whole], sides[whole]

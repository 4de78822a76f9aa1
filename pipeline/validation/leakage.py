"""Measures which share of a text is copied from another one, by substrings of fixed length.

A perplexity is too low if the model was trained on the text that it is measured on; and a generated text is not new if
it repeats the training text. Substrings of 50 are the criterion of Lee et al. 2022 (Deduplicating Training Data Makes
Language Models Better), in tokens there, in characters here, so phrases that people repeat literally count too.
"""

from collections.abc import Iterable, Iterator, Sequence

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
from pipeline.validation.kernels import add_keys, find_substrings, hash_substrings

LENGTH = 50
# The maximal number of substrings that are searched for: their hashes and the set of them take about 110 MiB.
MOST = 4_000_000


def overlap(text: Ids, other: Ids, dictionary: Dictionary, *, length: int = LENGTH, most: int = MOST) -> float:
    """Return the share of the substrings of `text` that occur anywhere in `other`; 0 if it is too short to have one."""
    return overlaps([text], other, dictionary, length=length, most=most)[0]


def overlaps(
    texts: Sequence[Ids], other: Ids, dictionary: Dictionary, *, length: int = LENGTH, most: int = MOST
) -> list[float]:
    """Return `overlap` for each of several texts; `other`, which may be far larger than memory, is read once.

    All are integers [ids]. A substring is `length` consecutive ids, at every position, or, if there may be more than
    `most`, at every n-th one: up to 200 million ids no copy of 100 is missed. No substring crosses the begin or the end
    of a document. Substrings are compared by 64-bit hashes.
    """
    begin, end = (-1, -1) if dictionary.begin is None or dictionary.end is None else (dictionary.begin, dictionary.end)
    step = -(-max(sum(map(len, texts)), 1) // most)
    hashes = [_hashes(text, length, begin, end, step) for text in texts]
    total = sum(map(len, hashes))
    if not total:
        return [0.0] * len(texts)

    # The set of all of their substrings; then `other` is searched for them by several threads.
    size = 1 << max(2 * total, 64).bit_length()
    keys, marks = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint8)
    found = np.zeros(size, dtype=np.bool_)
    for own in hashes:
        add_keys(own, keys, marks)

    def find(piece: Ids) -> None:
        find_substrings(piece, length, begin, end, keys, marks, found)

    for _ in ordered_map(find, (piece for _, piece in pieces(other, length)), threads=available_cores()):
        pass
    copied = keys[found]
    return [int(np.isin(own, copied).sum()) / len(own) if len(own) else 0.0 for own in hashes]


def _hashes(text: Ids, length: int, begin: int, end: int, step: int) -> npt.NDArray[np.uint64]:
    """Return the hashes of the substrings of `text` that start at multiples of `step`, uint64 [n]."""
    found = [np.empty(0, dtype=np.uint64)]
    for at, piece in pieces(text, length):
        own = np.empty(-(-len(piece) // step), dtype=np.uint64)
        found.append(own[: hash_substrings(piece, length, begin, end, at, step, own)])
    return np.concatenate(found)


def pieces(ids: Ids, length: int) -> Iterator[tuple[int, Ids]]:
    """Yield `ids` in pieces, each with the number of its first id; every substring is in exactly one of them."""
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

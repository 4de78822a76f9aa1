"""Counts the documents that are on two sides of a split: whole texts that are in train, and in eval or test too."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpus.duplicates import Hashes, joined, polynomials
from pipeline.corpus.rows import buffers, flags
from pipeline.dataset.sides import NAMES, TRAIN, side_rule
from pipeline.params.split import SplitParams


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
        hashes, sizes = polynomials(batch.column("text")), np.diff(buffers(batch.column("text"))[1])
        for row in np.flatnonzero(~last | (part > 0)).tolist():
            if part[row] == 0:
                begun, size = 0, 0
            begun, size = joined(begun, int(hashes[row]), int(sizes[row])), size + int(sizes[row])
            hashes[row], sizes[row] = begun, size
        whole = last & (sizes > 0)
        yield hashes[whole], sides[whole]

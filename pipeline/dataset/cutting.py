"""What the samples of a split are, written beside its ids."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.dataset.arrays import array_writer, load_array
from pipeline.dataset.buckets import choose_buckets, lengths_of_samples
from pipeline.dataset.samples import cut_documents
from pipeline.dataset.splits import SAMPLES_FILE, bucket_file
from pipeline.files import write_json
from pipeline.params.split import SplitParams

# The bucket of a stream if none is named: nothing of it is padded.
STREAM_BUCKETS = (32,)
DOCUMENTS_AT_ONCE = 1 << 20


def write_samples(folders: list[Path], params: SplitParams) -> tuple[int, ...]:
    """Write what the samples of the splits in `folders` are, the first of which trains; returns the buckets."""
    if params.samples == "stream":
        buckets = STREAM_BUCKETS if params.buckets == "auto" else params.buckets
        for folder in folders:
            write_json(folder / SAMPLES_FILE, {"samples": "stream", "buckets": list(buckets)})
        return buckets
    if params.buckets == "auto":
        counts = sum(lengths_of_samples(ends - starts) for starts, ends in _documents(folders[0]))
        buckets = choose_buckets(np.asarray(counts))
    else:
        buckets = params.buckets
    for own in folders:
        with ExitStack() as stack:
            tables = {
                length: stack.enter_context(array_writer(bucket_file(own, length), np.int64, width=2))
                for length in buckets
            }
            for starts, ends in _documents(own):
                for length, rows in cut_documents(starts, ends, buckets).items():
                    tables[length].append(rows)
        write_json(own / SAMPLES_FILE, {"samples": "documents", "buckets": list(buckets)})
    return buckets


def _documents(folder: Path) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield where documents begin and end, int64 [n] each, some at a time."""
    starts, total = load_array(folder / "documents.npy"), len(load_array(folder / "ids.npy"))
    for at in range(0, len(starts), DOCUMENTS_AT_ONCE):
        some = np.asarray(starts[at : at + DOCUMENTS_AT_ONCE])
        following = starts[at + DOCUMENTS_AT_ONCE] if at + DOCUMENTS_AT_ONCE < len(starts) else total
        yield some, np.append(some[1:], following) - 1

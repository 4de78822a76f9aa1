"""Samples: how a stream of ids is cut into windows, and in which bucket each stands.

A sample is (start, length): its inputs are ids[start : start + length], its labels the ids one further on. Samples of a
bucket have at most the bucket's length; a shorter one (the stream's end) is padded when it is batched.
"""

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int64]


def cut_windows(num_ids: int, buckets: tuple[int, ...]) -> dict[int, Samples]:
    """Cut a stream of `num_ids` ids into windows that do not overlap; returns bucket to int64 [n, 2] (start, length).

    The windows take the lengths of `buckets` in turn (with one bucket: all of that length), so that each bucket is
    trained on; what is left at the end goes to the smallest bucket that holds it. Every id but the first is the label
    of exactly one position.
    """
    positions = max(num_ids - 1, 0)
    cycle = sum(buckets)
    rounds = positions // cycle
    offset, samples = 0, {}
    for length in buckets:
        starts = np.arange(rounds, dtype=np.int64) * cycle + offset
        samples[length] = np.stack([starts, np.full(rounds, length, dtype=np.int64)], axis=1)
        offset += length
    start = rounds * cycle
    while (rest := positions - start) > 0:
        length = next((bucket for bucket in buckets if bucket >= rest), buckets[-1])
        samples[length] = np.concatenate([samples[length], [[start, min(rest, length)]]])
        start += length
    return samples

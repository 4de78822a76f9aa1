"""Which bucket lengths suit documents of these lengths."""

import numpy as np
import numpy.typing as npt

# What a batch may hold of padding; the longest sample (a longer document is cut): what a network still learns from.
MOST_PADDING = 0.05
LONGEST = 256
# What split.buckets allows.
SHORTEST = 2


def lengths_of_samples(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many samples of each length documents with so many `positions` make, int64 [LONGEST + 1].

    Documents longer than LONGEST make samples of that length, and one of what is left.
    """
    whole = (positions - 1) // LONGEST
    counts = np.bincount(positions - whole * LONGEST, minlength=LONGEST + 1)
    counts[LONGEST] += int(whole.sum())
    return counts


def choose_buckets(counts: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Return the fewest lengths with which at most MOST_PADDING of all places are padding, the best of as many.

    `counts` are those of `lengths_of_samples`. By dynamic programming: the least padding of the samples up to length j
    in k buckets is that of those up to some i in k - 1 buckets, and of the others in a bucket of length j.
    """
    lengths = np.arange(len(counts))
    counts = counts.copy()
    counts[SHORTEST] += counts[:SHORTEST].sum()  # padded whatever is chosen
    counts[:SHORTEST] = 0
    longest = int(lengths[counts > 0].max(initial=SHORTEST))
    samples, places = np.cumsum(counts)[: longest + 1], np.cumsum(counts * lengths)[: longest + 1]
    # padded[i, j]: places of padding if the samples longer than i, up to j, stand in a bucket of length j.
    ends = lengths[: longest + 1]
    padded = (samples[None, :] - samples[:, None]) * ends[None, :] - (places[None, :] - places[:, None])
    padded = np.where(ends[:, None] < ends[None, :], padded.astype(np.float64), np.inf)
    padded[:, :SHORTEST] = np.inf
    least = padded[0].copy()
    choices: list[npt.NDArray[np.int64]] = []
    while least[longest] > MOST_PADDING * (least[longest] + places[longest]):
        together = least[:, None] + padded
        choices.append(np.argmin(together, axis=0))
        least = together.min(axis=0)
    chosen = [longest]
    for choice in reversed(choices):
        chosen.append(int(choice[chosen[-1]]))
    return tuple(sorted(chosen))

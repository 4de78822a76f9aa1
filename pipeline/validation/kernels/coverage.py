"""Which ids are the label of a position, and of how many."""

from pipeline.core.kernel_cache import kernel


@kernel
def add_spans(covered, samples, at):
    """Add one to covered[k] for every sample that has id number at + k as a label.

    `covered` is int32 [ids]; `samples`, int64 [n, 2] (start, length), start at `at` or later and end within it.
    """
    for row in range(len(samples)):
        start = samples[row, 0] - at
        for k in range(start + 1, start + samples[row, 1] + 1):
            covered[k] += 1


@kernel
def tally(covered, ids, begin):
    """Return how many ids are no label, how many times others are one too often, and how many begin symbols are one.

    Id number k is the label of covered[k] positions. The id `begin` (-1: there is none) is to be the label of none.
    """
    unlabelled, repeated, begins = 0, 0, 0
    for k in range(len(ids)):
        if ids[k] == begin:
            begins += covered[k] > 0
        elif covered[k] == 0:
            unlabelled += 1
        else:
            repeated += covered[k] - 1
    return unlabelled, repeated, begins


@kernel
def count_misplaced(ids, samples, inputs, labels, padding):
    """Return how many places of a batch do not hold what the text has there.

    `samples`, int64 [n, 2], are those of the batch, counted from ids[0]; `inputs` and `labels` are int64 [n, length].
    At position t of a sample the input is ids[start + t] and the label the id after it; beyond its end both are
    `padding`.
    """
    wrong = 0
    for row in range(len(samples)):
        start, length = samples[row, 0], samples[row, 1]
        for t in range(length):
            wrong += (inputs[row, t] != ids[start + t]) | (labels[row, t] != ids[start + t + 1])
        for t in range(length, inputs.shape[1]):
            wrong += (inputs[row, t] != padding) | (labels[row, t] != padding)
    return wrong

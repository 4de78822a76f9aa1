"""A slow Kneser-Ney model that follows the formulas, as the reference for `pipeline.model.ngram`."""

from collections import defaultdict


class Reference:
    def __init__(self, ids, *, order, outcomes, begin=None):
        self.longest, self.outcomes = order + 1, outcomes
        occurrences = defaultdict(int)
        neighbours = defaultdict(set)
        for number, document in enumerate(documents(list(map(int, ids)), begin)):
            for last, symbol in enumerate(document):
                if symbol == begin:
                    continue
                for length in range(1, min(self.longest, last + 1) + 1):
                    first = last - length + 1
                    gram = tuple(document[first : last + 1])
                    occurrences[gram] += 1
                    neighbours[gram].add(document[first - 1] if first else ("start", number))
        self.count = {
            gram: occurrences[gram] if len(gram) == self.longest else len(neighbours[gram]) for gram in occurrences
        }
        self.successors = defaultdict(dict)
        for gram, count in self.count.items():
            self.successors[gram[:-1]][gram[-1]] = count
        self.discounts = [None, *(self.estimate(length) for length in range(1, self.longest + 1))]

    def estimate(self, length):
        n = [sum(1 for gram, count in self.count.items() if len(gram) == length and count == c) for c in range(5)]
        if n[1] and n[2] and n[3]:
            y = n[1] / (n[1] + 2 * n[2])
            found = [0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
            if min(found[1:]) > 0:
                return found
        return [0, 0.5, 1.0, 1.5]

    def p(self, symbol, context):
        """Return the probability of `symbol` after `context`, of which the order limits the length."""
        p = 1 / self.outcomes
        for length in range(min(len(context), self.longest - 1) + 1):
            successors = self.successors.get(tuple(context[len(context) - length :]))
            if not successors:
                continue
            discounts = self.discounts[length + 1]
            total = sum(successors.values())
            reserved = sum(discounts[min(count, 3)] for count in successors.values())
            count = successors.get(symbol, 0)
            p = (count - discounts[min(count, 3)]) / total + reserved / total * p
        return p


def documents(ids, begin):
    """Return the text, cut before each begin symbol."""
    cuts = [at for at, symbol in enumerate(ids) if symbol == begin and at]
    return [ids[first:stop] for first, stop in zip([0, *cuts], [*cuts, len(ids)], strict=True)]

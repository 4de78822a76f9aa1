"""Stop strings: a text ends before the first of them, also where one straddles two pieces."""

from collections.abc import Sequence


class StopFilter:
    """Looks at a text as it comes, in pieces of any length."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self._held = ""

    def feed(self, piece: str) -> tuple[int, bool]:
        """Take the next piece; returns how many characters are now sure, and whether the text ends after them.

        They are counted from the first that was not sure before. The others may be the beginning of a stop string; if
        the text ends, it loses them.
        """
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:  # the one that is complete first; of several the longest
            return min(found)[1], True
        sure = len(text) - max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[sure:]
        return sure, False


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of `text` begin `stop`."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))

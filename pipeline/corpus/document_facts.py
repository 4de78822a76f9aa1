"""Facts about the clean documents, one row a shard: counted from the table itself, one batch in memory at a time."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.duplicates import SeenTexts, polynomials
from pipeline.corpus.rows import flags

COLUMNS = ("document", "part", "last", "text")


@dataclass(frozen=True)
class TextSize:
    """How much text there is: documents, characters, and newlines among these."""

    documents: int
    chars: int
    newlines: int


def document_facts(shards: Iterable[tuple[str, Iterable[pa.RecordBatch]]]) -> pd.DataFrame:
    """Return one row per shard, of `shards`: each one's name and its batches with COLUMNS, all in their order.

    Columns: shard, documents (that begin in it), chars, newlines, how many documents are unnamed, repeated (have the
    name of an earlier one), empty (have no characters) or broken (their rows are not parts 0, 1, … of which only the
    last ends them), and how many rows are without_text (null). What is wrong counts where it is seen. Names are
    compared by 64-bit hashes, which take 16 to 32 bytes each: the only thing here that grows with the corpus.
    """
    counter = _Counter()
    facts = pd.DataFrame(
        [{"shard": name, **counter.count(batches)} for name, batches in shards], columns=["shard", *FIGURES]
    )
    if counter.is_open:
        facts.loc[facts.index[-1], "broken"] += 1
    return facts


def size_of(facts: pd.DataFrame) -> TextSize:
    """Return how much text the documents with these `facts` hold."""
    return TextSize(**{name: int(facts[name].sum()) for name in ("documents", "chars", "newlines")})


FIGURES = (
    "documents", "chars", "newlines", "unnamed", "repeated", "without_text", "empty", "broken",
)  # fmt: skip


class _Counter:
    """Knows of the document that is not ended yet how long it is, and which part comes next (0: a new document's)."""

    def __init__(self) -> None:
        self.seen = SeenTexts()
        self._chars = 0
        self._next = 0

    @property
    def is_open(self) -> bool:
        """Whether a document has begun that no row has ended."""
        return self._next > 0

    def count(self, batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
        """Return the figures of one shard."""
        figures = dict.fromkeys(FIGURES, 0)
        for batch in batches:
            if batch.num_rows:
                self._add(batch, figures)
        return figures

    def _add(self, batch: pa.RecordBatch, figures: dict[str, int]) -> None:
        text = batch.column("text")
        chars = np.asarray(pc.fill_null(pc.utf8_length(text), 0)).astype(np.int64)
        part, last = np.asarray(batch.column("part")).astype(np.int64), flags(batch.column("last"))
        first = part == 0
        names = pc.fill_null(batch.column("document").filter(pa.array(first)).cast(pa.large_string()), "")
        figures["documents"] += int(first.sum())
        figures["chars"] += int(chars.sum())
        figures["newlines"] += pc.sum(pc.count_substring(text, "\n")).as_py() or 0
        figures["without_text"] += text.null_count
        named = names.filter(pc.greater(pc.binary_length(names), 0))
        figures["unnamed"] += len(names) - len(named)
        figures["repeated"] += int((~self.seen.add(polynomials(named))).sum())
        wanted = np.append(self._next, np.where(last, 0, part + 1)[:-1])
        figures["broken"] += int((part != wanted).sum())
        self._next = 0 if last[-1] else int(part[-1]) + 1
        figures["empty"] += int((self._lengths(chars, last) == 0).sum())

    def _lengths(self, chars: npt.NDArray[np.int64], last: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the characters of each document that ends in these rows, int64 [n]."""
        upto = self._chars + np.cumsum(chars)
        ends = upto[last]
        self._chars = int(upto[-1] - (ends[-1] if len(ends) else 0))
        return np.diff(ends, prepend=0)

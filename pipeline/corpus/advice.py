"""Which `clean` and `split` suit a text, with reasons: rules of thumb over a survey of it."""

from typing import NamedTuple

import numpy as np

from pipeline.corpus.survey import RARE, Survey
from pipeline.params.clean import CleanParams

# Shares of the characters from which on something matters.
TRANSLITERATED, EXTRA_SPACES, INDENTED_LINES = 0.02, 0.01, 0.02
# Texts at least so many and, in the middle, at most so long are samples of their own.
MANY_DOCUMENTS, SHORT_DOCUMENT = 500, 1000
# Documents at least so many can be drawn one by one.
ENOUGH_DOCUMENTS = 50
# Characters that are enough to measure on: more costs time and tells no more.
ENOUGH_EVAL = 2_000_000


class Advice(NamedTuple):
    """A value for a key of the params, and why."""

    key: str
    value: str
    why: str


def advise(found: Survey) -> list[Advice]:
    """Return what to set for this text, with reasons; what is not named may stay as it is."""
    return [*_clean(found), *_split(found)]


def _clean(found: Survey) -> list[Advice]:
    total = max(found.characters, 1)
    changed = 1 - found.share_kept(CleanParams(charset="ascii", keep_newlines=True, keep_tabs=True))
    said = []
    if changed > TRANSLITERATED:
        said.append(Advice("clean.charset", "unicode", f"ascii would spell {changed:.1%} of the characters otherwise"))
        if rare := found.rare:
            share = sum(int(found.counts[ord(char)]) for char in rare) / total
            why = f"{len(rare):,} of {len(found.alphabet):,} characters are rarer: {share:.2%} of the text"
            said.append(Advice("clean.min_count", str(RARE), why))
    else:
        said.append(Advice("clean.charset", "ascii", f"it leaves all but {changed:.2%} of the characters as they are"))
    if width := found.wrapped_at():
        why = f"lines are cut at {width} characters, also within words: without newlines they join again"
        said.append(Advice("clean.keep_newlines", "false", why))
    if found.indented_lines > INDENTED_LINES * max(found.lines, 1):
        why = f"{found.indented_lines:,} lines begin with a tab"
        said.append(Advice("clean.keep_tabs", "true", why))
    elif found.extra_spaces > EXTRA_SPACES * total:
        why = f"{found.extra_spaces / total:.1%} of the characters are spaces after a space, within lines"
        said.append(Advice("clean.whitespace", "collapse", why))
    return said


def _split(found: Survey) -> list[Advice]:
    middle = int(np.median(found.document_lengths)) if found.documents else 0
    said = []
    if found.documents >= MANY_DOCUMENTS and middle <= SHORT_DOCUMENT:
        why = f"{found.documents:,} documents, the median of {middle:,} characters: each is a text of its own"
        said += [Advice("split.samples", "documents", why)]
        said += [Advice("split.buckets", "auto", "their lengths differ: at most 5 % of a batch is padding")]
    if found.documents >= ENOUGH_DOCUMENTS:
        said.append(Advice("split.by", "document", "none stands on both sides, and new ones move no other"))
    fraction = 1 - ENOUGH_EVAL / max(found.characters, 1)
    if fraction > 0.9:  # noqa: PLR2004  the default
        why = f"{ENOUGH_EVAL:,} characters are enough to measure on"
        digits = 4 if fraction < 0.9999 else 8  # noqa: PLR2004  1 is not allowed
        said.append(Advice("split.train_fraction", f"{fraction:.{digits}g}", why))
    return said

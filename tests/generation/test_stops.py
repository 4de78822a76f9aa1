"""Stop strings in streamed text."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.generation.text_types import StopFilter

TEXTS = st.text("ab ", max_size=60)


@given(TEXTS, st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3), st.lists(st.integers(1, 9), max_size=60))
def test_chunking_does_not_change_where_a_stop_string_stops(text, stops, sizes):
    end = next((n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops)), None)
    expected = text
    if end is not None:
        expected = text[: min(end - len(stop) for stop in stops if text[:end].endswith(stop))]
    found, stopped, at, held = "", False, 0, ""
    filter_ = StopFilter(stops)
    for size in [*sizes, 100]:
        chunk = text[at : at + size]
        at += size
        held += chunk
        sure, stopped = filter_.feed(chunk)
        found, held = found + held[:sure], held[sure:]
        if stopped:
            break
    assert stopped == (end is not None)
    assert (found if stopped else found + held) == expected

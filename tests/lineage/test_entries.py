from pipeline.evaluation.measurement import measurement, measurement_id
from pipeline.lineage.entries import Entry, aliases, by_measurement
from pipeline.tracking.store import Registered


def entry(name, perplexity, text="a" * 64, window=100, **more):
    record = measurement(eval_sha256=text, window=window, unknown_chars=0) if text else None
    params = {"data.source": "my/book.txt"}
    return Entry(name, "experiment", name, perplexity=perplexity, measurement=record, params=params, **more)


def names(groups):
    return [[one.name for one in group.entries] for group in groups]


def test_the_best_comes_first():
    assert names(by_measurement([entry("worse", 4.0), entry("best", 3.0), entry("middle", 3.5)])) == [
        ["best", "middle", "worse"]
    ]


def test_figures_of_other_texts_or_windows_are_never_ranked_together():
    found = by_measurement(
        [entry("a", 4.0), entry("b", 3.0, text="b" * 64), entry("c", 5.0), entry("d", 1.0, window=10, is_here=True)]
    )
    assert names(found) == [["d"], ["a", "c"], ["b"]]  # the workspace's own text first, then the one with most models
    assert found[1].title == "eval text aaaaaaaa of book.txt, windows of 100"


def test_an_unknown_text_is_not_ranked_and_comes_last():
    found = by_measurement([entry("unknown", 1.0, text=None), entry("none", None), entry("known", 9.0)])
    assert names(found) == [["known"], ["unknown", "none"]]
    assert found[1].title == "no record of how it was measured: not ranked"


def test_the_champion_is_marked_only_among_equals():
    """The same weights, measured over other windows or with another n-gram model, are not the registered version."""
    here = entry("here", 3.0, weights="w")
    champion = Registered("m", 1, "champion", "")
    registered = {("w", "3.0", measurement_id(here.measurement)): champion}
    others = [
        entry("window", 3.0, window=10, weights="w"),
        entry("ngram", 2.9, weights="w"),
        entry("before", 3.0, text=None, weights="w"),
    ]
    assert aliases([here, *others], registered) == {"here": champion}

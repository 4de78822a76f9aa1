from pipeline.comparing.entries import Entry, by_text


def entry(name, perplexity, text="a" * 64, window=100, **more):
    params = {"evaluate.window": window, "data.source": "my/book.txt"}
    return Entry(name, "experiment", name, perplexity=perplexity, eval_text=text, params=params, **more)


def names(groups):
    return [[one.name for one in group.entries] for group in groups]


def test_the_best_comes_first():
    assert names(by_text([entry("worse", 4.0), entry("best", 3.0), entry("middle", 3.5)])) == [
        ["best", "middle", "worse"]
    ]


def test_figures_of_other_texts_or_windows_are_never_ranked_together():
    found = by_text(
        [entry("a", 4.0), entry("b", 3.0, text="b" * 64), entry("c", 5.0), entry("d", 1.0, window=10, is_here=True)]
    )
    assert names(found) == [["d"], ["a", "c"], ["b"]]  # the workspace's own text first, then the one with most models
    assert found[1].title == "eval text aaaaaaaa of book.txt, windows of 100"


def test_an_unknown_text_is_not_ranked_and_comes_last():
    found = by_text([entry("unknown", 1.0, text=None), entry("none", None), entry("known", 9.0)])
    assert names(found) == [["known"], ["unknown", "none"]]
    assert found[1].title == "eval text unknown: not ranked"

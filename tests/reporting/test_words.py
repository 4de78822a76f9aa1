import pytest

from pipeline.reporting.samples import decimal, param, percent, seconds, sign, signed


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (decimal(3.64425), "3.644"),
        (decimal(None), "\N{EN DASH}"),
        (decimal(float("nan")), "\N{EN DASH}"),
        (percent(0.6171), "61.7 %"),
        (seconds(42.71), "42.7 s"),
        (seconds(368), "6 min 8 s"),
        (seconds(7260), "2 h 1 min"),
        (signed(0.224), "+0.22"),
        (signed(-0.224), "\N{MINUS SIGN}0.22"),
        (signed(-0.001), "0.00"),
        (sign("space"), "␣"),
        (sign("\n"), "⏎"),
        (sign("\u202e"), "U+202E"),
        (sign("s"), "s"),
        (param([20, 100]), "[20,100]"),
        (param(None), "null"),
        (param("adamw"), "adamw"),
        (param("my/texts"), "my/texts"),
        (param("/home/somebody/my texts/"), "…/my texts"),
        (param("~/texts"), "…/texts"),
        (param("C:\\Users\\somebody\\a.txt"), "…/a.txt"),
        (param("file:///home/somebody/a.txt"), "…/a.txt"),
        (param("https://somebody:secret@example.org/a.txt"), "https://example.org/a.txt"),
    ],
)
def test_how_things_are_written(found, shown):
    assert found == shown

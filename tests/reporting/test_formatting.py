import re
from pathlib import Path

import pytest

from pipeline.reporting.project import INVISIBLE, decimal, param, percent, seconds, signed, visible


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
        (visible("space"), "␣"),
        (visible("\n"), "↵"),
        (visible("\u202e"), "U+202E"),
        (visible("s"), "s"),
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
def test_values_are_formatted(found, shown):
    assert found == shown


def test_the_playground_and_the_report_show_the_same_symbols():
    """The pages' scripts and styles cannot import the table of symbols."""
    pages = Path(__file__).parents[2] / "pipeline"
    script = (pages / "serving/page/words.js").read_text(encoding="utf-8")
    pairs = re.findall(r'\["(.+?)", "(.+?)"\]', script.partition("INVISIBLE")[2].partition("]);")[0])
    assert {name.encode().decode("unicode_escape"): symbol for name, symbol in pairs} == INVISIBLE
    for page in ("serving", "reporting"):
        style = (pages / page / "page/style.css").read_text(encoding="utf-8")
        assert f'content: "{INVISIBLE[chr(10)]}";' in style

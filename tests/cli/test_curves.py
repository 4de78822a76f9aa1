import re

import pytest

from pipeline.cli.compare import POINTS, curve_in, mermaid
from pipeline.core.errors import UserError


def write(folder, rows):
    (folder / "plots").mkdir()
    (folder / "plots/train.csv").write_text("step,epoch,seconds,train_perplexity,eval_perplexity\n" + rows)
    return folder


def lines(chart):
    return [[float(value) for value in line.split(", ")] for line in re.findall(r"line \[(.*)\]", chart)]


def test_rows_without_evaluation_are_skipped(tmp_path):
    folder = write(tmp_path, "1,0.5,1,9,8\n2,0.7,2,8,\n3,1,3,7,6\n")
    assert curve_in(folder, "this") == ([0.5, 1.0], [8.0, 6.0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "main: no plots/train.csv"),
        ("1,0.5,1,9,\n", "main: .* has no evaluation"),
        ("1,0.5,1,9,-inf\n", "main: plots/train.csv is not a training curve"),
        ("1,half,1,9,8\n", "main: plots/train.csv is not a training curve"),
    ],
)
def test_a_revision_without_a_curve_is_named(tmp_path, rows, message):
    if rows:
        write(tmp_path, rows)
    with pytest.raises(UserError, match=message):
        curve_in(tmp_path, "main")


def test_the_chart_has_one_line_per_curve_and_only_measured_points():
    chart = mermaid([("main", ([1.0, 2.0, 4.0], [9.0, 7.0, 5.0])), ("this", ([1.0, 2.0], [8.0, 4.0]))])
    first, second = lines(chart)
    assert len(first) == len(second) == POINTS
    assert (first[0], first[-1]) == (7.0, 5.0)  # the second curve begins at half of its training
    assert (second[0], second[-1]) == (8.0, 4.0)
    assert "main: 5.000 · this: 4.000" in chart
    assert chart.count("```") == 2


def test_one_evaluation_is_one_point():
    assert lines(mermaid([("this", ([1.0], [8.0]))])) == [[8.0]]

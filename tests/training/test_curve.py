"""The rows of plots/train.csv."""

import pytest

from pipeline.core.errors import UserError
from pipeline.training.curve import StepMetrics, read_curve, write_curve

MORE = {"steps": 2, "epoch": 0.5, "seconds": 1.0, "chars": 10, "learning_rate": 0.1, "gradient_norm": 1.0}


def test_a_row_has_the_mean_since_the_last_row_and_eval_only_if_measured(tmp_path):
    points = [
        StepMetrics(step=1, train_perplexity=9.0, recent_perplexity=9.0, **MORE),
        StepMetrics(step=2, train_perplexity=8.0, recent_perplexity=7.0, eval_perplexity=6.5, **MORE),
    ]
    write_curve(tmp_path / "train.csv", points)
    rows = [line.split(",") for line in (tmp_path / "train.csv").read_text().splitlines()]
    assert rows[0][3:5] == ["train_perplexity", "eval_perplexity"]
    assert [row[3:5] for row in rows[1:]] == [["9.000000", ""], ["7.000000", "6.500000"]]


def test_what_is_written_can_be_read(tmp_path):
    write_curve(tmp_path / "train.csv", [StepMetrics(step=2, train_perplexity=8.0, recent_perplexity=7.0, **MORE)])
    assert read_curve(tmp_path / "train.csv", "step", "train_perplexity", "eval_perplexity") == [
        {"step": 2.0, "train_perplexity": 7.0, "eval_perplexity": None}
    ]


ROWS = ["1", "1,x", "1,nan", "1,-inf", "\0,1"]


@pytest.mark.parametrize("content", ["", "garbage", "step\n1\n", *(f"step,epoch\n{row}\n" for row in ROWS)])
def test_a_damaged_curve_is_refused(tmp_path, content):
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(UserError, match="not a training curve"):
        read_curve(tmp_path / "train.csv", "step", "epoch")

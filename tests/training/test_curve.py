"""The rows of plots/train.csv."""

from pipeline.training.curve import StepMetrics, write_curve

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

"""The line that an evaluation leaves in the log."""

import pytest

from pipeline.tracking.progress import show_training
from pipeline.training.curve import StepMetrics


@pytest.mark.parametrize(("epoch", "shown"), [(0.0015, "epoch 0.0015 "), (0.5, "epoch  0.50 "), (12.3, "epoch 12.30 ")])
def test_an_evaluation_says_how_much_of_an_epoch_is_done(epoch, shown, capsys):
    report = StepMetrics(
        step=5,
        steps=10,
        epoch=epoch,
        seconds=2.0,
        chars=3000,
        train_perplexity=4.0,
        learning_rate=0.01,
        gradient_norm=0.5,
        eval_perplexity=3.5,
        is_best=True,
    )
    assert list(show_training([report])) == [report]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(shown)
    assert line.endswith("train perplexity  4.000  eval  3.500      1,500 chars/s  best so far")

"""What stages write to a log: one line per evaluation, and one after a long reading."""

import pytest

from pipeline.tracking import progress
from pipeline.tracking.progress import show_training, throughput
from pipeline.training.curve import StepMetrics


@pytest.mark.parametrize(("epoch", "shown"), [(0.0015, "epoch 0.0015 "), (0.5, "epoch  0.50 "), (12.3, "epoch 12.30 ")])
def test_an_evaluation_shows_the_fraction_of_an_epoch(epoch, shown, capsys):
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


def test_a_short_stage_prints_nothing(capsys):
    with throughput("ingest", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_a_long_stage_prints_one_line(capsys, monkeypatch):
    clock = iter([0.0, 12.5])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with throughput("ingest", None) as advance:
        advance(1_000_000_000)
        advance(250_000_000)
    assert capsys.readouterr().err == "ingest: 1.2 GB in 12.5 s, 100 MB/s\n"

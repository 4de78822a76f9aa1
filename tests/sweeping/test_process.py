import json

from pipeline.sweeping.process import TrialProcess


def test_only_evaluations_count_for_pruning(tmp_path):
    """A curve also has points with train perplexity alone."""
    process = TrialProcess("quick-0001", 1, tmp_path, trials=None)
    points = [{"epoch": 0.1, "train_perplexity": 9.0}, {"epoch": 0.5, "train_perplexity": 8.0, "eval_perplexity": 8.5}]
    process.curve.write_text("".join(json.dumps(point) + "\n" for point in points))
    assert [(point.epoch, point.perplexity) for point in process.new_points()] == [(0.5, 8.5)]
    assert process.new_points() == []

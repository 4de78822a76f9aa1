"""The figures in metrics/summary.json."""

from pathlib import Path

from ruamel.yaml import YAML

from stages.evaluate import summary_figures

ROOT = Path(__file__).parents[2]
TRAIN = {"best_eval_perplexity": 3.5, "seconds": 12.5, "parameters": 7, "chars_per_second": 99, "device": "cpu"}


def test_the_summary_begins_with_perplexity_and_has_no_facts_about_the_text():
    evaluate = {"bits_per_char": 1.8, "perplexity": 3.5, "num_chars": 1000, "buckets": {}, "eval_sha256": "b" * 64}
    figures = summary_figures(evaluate, TRAIN)
    assert figures == {
        "perplexity": 3.5,
        "bits_per_char": 1.8,
        "train_seconds": 12.5,
        "parameters": 7,
        "chars_per_second": 99,
    }
    assert next(iter(figures)) == "perplexity"


def test_the_summary_has_at_most_ten_figures_in_column_order():
    evaluate = dict.fromkeys(
        [
            "test_perplexity",
            "baseline_perplexity_stateful",
            "perplexity_stateful",
            "perplexity_adaptive",
            "bits_per_char",
            "network_perplexity",
            "baseline_perplexity",
            "perplexity",
            "baseline",
            "accuracy",
        ],
        1.0,
    )
    assert list(summary_figures(evaluate, TRAIN)) == [
        "perplexity",
        "baseline_perplexity",
        "network_perplexity",
        "bits_per_char",
        "perplexity_stateful",
        "perplexity_adaptive",
        "test_perplexity",
        "train_seconds",
        "parameters",
        "chars_per_second",
    ]


def test_the_summary_is_the_only_dvc_metric():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    found = [name for stage in stages.values() for entry in stage.get("metrics", []) for name in entry]
    assert found == ["metrics/summary.json"]

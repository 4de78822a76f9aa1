"""The figures that models are compared by: the only metrics of `dvc metrics show` and `dvc exp show`."""

from collections.abc import Mapping
from typing import Any

# The order is that of the columns. A name on the left is the key in metrics/summary.json.
FROM_EVALUATE = (
    "perplexity",
    "baseline_perplexity",
    "network_perplexity",
    "bits_per_char",
    "perplexity_stateful",
    "perplexity_adaptive",
    "baseline_perplexity_stateful",
    "test_perplexity",
)
FROM_TRAIN = {"train_seconds": "seconds", "parameters": "parameters", "chars_per_second": "chars_per_second"}


def summary_figures(evaluate: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures for metrics/summary.json from those of `evaluate` and `train`.

    A figure that neither has is left out: there is a test perplexity only if the split has a test text.
    """
    figures = {key: evaluate[key] for key in FROM_EVALUATE if key in evaluate}
    return figures | {key: train[name] for key, name in FROM_TRAIN.items() if name in train}

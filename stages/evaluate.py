"""evaluate: measures the perplexity by the fixed protocol, and breaks it down."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, NotRequired

import torch
import typer
from pydantic import Field
from typing_extensions import TypedDict

from pipeline.core.errors import UserError
from pipeline.core.files import (
    MODEL,
    PLOTS,
    SPLITS,
    SUMMARY,
    metrics_of,
    read_checked,
    read_json,
    whole_file,
    write_json,
)
from pipeline.core.reproducible import available_cores
from pipeline.dataset.dictionary import UNKNOWN, Dictionary
from pipeline.dataset.splits import Batch, Split, load_split, ordered_batches
from pipeline.evaluation.adaptive import adaptive_total
from pipeline.evaluation.breakdown import Breakdown
from pipeline.evaluation.measurement import MEASUREMENT, MEASUREMENT_ID, measurement, measurement_id
from pipeline.evaluation.perplexity import (
    Losses,
    Total,
    baseline_figures,
    measure,
    measure_apart,
    total,
    whole_batches,
    window_batches,
)
from pipeline.model.network import CharNetwork
from pipeline.model.ngram import NgramModel
from pipeline.model.saved import WEIGHTS, SavedModel
from pipeline.params.reader import read_group
from pipeline.params.training import EvaluateParams
from pipeline.tracking.stage import stage

# The order is that of the columns. A name on the left is the key in metrics/summary.json.
FROM_EVALUATE = (
    "perplexity",
    "baseline_perplexity",
    "network_perplexity",
    "bits_per_char",
    "perplexity_stateful",
    "perplexity_adaptive",
    "test_perplexity",
)
FROM_TRAIN = {"train_seconds": "seconds", "parameters": "parameters", "chars_per_second": "chars_per_second"}


# Yields the losses of batches that do not continue each other.
Measured = Callable[[Iterable[Batch]], Iterator[Losses]]
Number = Annotated[float, Field(allow_inf_nan=False)]


class FromSplit(TypedDict):
    """What this stage needs of metrics/split.json."""

    eval_sha256: str


class FromTrain(TypedDict):
    """What this stage needs of metrics/train.json; older trainings have less."""

    seconds: NotRequired[Number]
    parameters: NotRequired[int]
    chars_per_second: NotRequired[Number]


# Log-probabilities, 4 bytes each, of all batches that are measured at once.
MOST_VALUES = 1 << 26


def summary_figures(evaluate: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures for metrics/summary.json from those of `evaluate` and `train`.

    A figure that neither has is left out: there is a test perplexity only if the split has a test text.
    """
    figures = {key: evaluate[key] for key in FROM_EVALUATE if key in evaluate}
    return figures | {key: train[name] for key, name in FROM_TRAIN.items() if name in train}


def main() -> None:
    with stage("evaluate"):
        torch.set_num_threads(1)  # `measure_apart` computes several batches at once instead
        params = read_group("evaluate", EvaluateParams)
        saved, text, training = SavedModel.load(MODEL), *_earlier_figures()
        network = CharNetwork(saved.config)
        network.load_weights(saved.weights)
        split = load_split(SPLITS / "eval", vocab_size=len(saved.dictionary))
        ngram = saved.ngram
        whole, breakdown = Total(), Breakdown.empty(window=params.window, vocab_size=len(saved.dictionary))
        longest = max([params.window, *split.buckets])
        at_once = MOST_VALUES // (params.batch_size * longest * len(saved.dictionary))
        threads = max(1, min(available_cores(), at_once))
        measured = partial(measure_apart, network, threads=threads, ngram=ngram)
        for losses in measured(window_batches(split, window=params.window, batch_size=params.batch_size)):
            whole.add(losses)
            breakdown.add(losses)
        if not math.isfinite(whole.perplexity):
            raise UserError(f"{MODEL / WEIGHTS}: the perplexity is not a number; `dvc checkout` restores the model")

        buckets = {
            length: total(measured(ordered_batches(split.ids, samples, length, params.batch_size)))
            for length, samples in split.buckets.items()
            if len(samples)
        }
        test = _test_figures(measured, params, vocab_size=len(saved.dictionary))
        stateful = total(measure(network, whole_batches(split), ngram=ngram))
        adaptive = adaptive_total(network, split, ngram=ngram) if params.adaptive else None
        record = measurement(
            eval_sha256=text["eval_sha256"],
            window=params.window,
            unknown_chars=int(breakdown.label_count[UNKNOWN]) if saved.dictionary.unknown else 0,
        )
        write_json(
            metrics_of("evaluate"),
            {
                "perplexity": whole.perplexity,
                "perplexity_batch_mean": whole.perplexity_batch_mean,
                "perplexity_stateful": stateful.perplexity,
                **({} if adaptive is None else {"perplexity_adaptive": adaptive.perplexity}),
                "bits_per_char": whole.bits_per_char,
                "accuracy": whole.accuracy,
                "num_chars": whole.chars,
                **_network_alone(partial(measured, ngram=None), ngram, split, params),
                **_baseline(saved.dictionary, split, params),
                **test,
                "buckets": {
                    str(length): {"perplexity": one.perplexity, "num_chars": one.chars}
                    for length, one in buckets.items()
                },
                "eval_sha256": record["eval_sha256"],
                MEASUREMENT: record,
                MEASUREMENT_ID: measurement_id(record),
            },
        )
        write_json(SUMMARY, summary_figures(read_json(metrics_of("evaluate")), training))
        for name, table in (
            ("position", breakdown.by_position()),
            ("characters", breakdown.by_character(saved.dictionary)),
            ("mistakes", breakdown.mistakes(saved.dictionary)),
        ):
            with whole_file(PLOTS / f"{name}.csv") as part:
                table.to_csv(part, index=False, lineterminator="\n", float_format="%.6f")


def _earlier_figures() -> tuple[FromSplit, FromTrain]:
    """Return the figures of earlier stages that this one passes on; UserError before anything is measured."""
    return read_checked(metrics_of("split"), FromSplit), read_checked(metrics_of("train"), FromTrain)


def _baseline(dictionary: Dictionary, split: Split, params: EvaluateParams) -> dict[str, Any]:
    """Return the figures of the n-gram baseline; none if `evaluate.baseline_order` is 0."""
    if not params.baseline_order:
        return {}
    train, order = load_split(SPLITS / "train", vocab_size=len(dictionary)).ids, params.baseline_order
    model = NgramModel.fit(train, vocab_size=len(dictionary), order=order, begin=dictionary.begin)
    return baseline_figures(model, split, window=params.window)


def _network_alone(
    measured: Measured, ngram: NgramModel | None, split: Split, params: EvaluateParams
) -> dict[str, float]:
    """Return the perplexity of the network without its n-gram model; nothing if it has none."""
    if ngram is None:
        return {}
    batches = window_batches(split, window=params.window, batch_size=params.batch_size)
    return {"network_perplexity": total(measured(batches)).perplexity}


def _test_figures(measured: Measured, params: EvaluateParams, *, vocab_size: int) -> dict[str, float]:
    """Return the figures of the test text by the same protocol, or nothing if there is no test text."""
    folder = SPLITS / "test"
    if not folder.exists():
        return {}
    split = load_split(folder, vocab_size=vocab_size)
    batches = window_batches(split, window=params.window, batch_size=params.batch_size)
    found = total(measured(batches))
    return {"test_perplexity": found.perplexity, "test_bits_per_char": found.bits_per_char, "test_chars": found.chars}


if __name__ == "__main__":
    typer.run(main)

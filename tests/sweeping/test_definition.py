from pathlib import Path

import pytest

from pipeline.cli.experiments import find_sweep, list_sweeps
from pipeline.core.errors import UserError
from pipeline.params.reader import flatten, read_yaml
from pipeline.sweeping.definition import load_sweep

ROOT = Path(__file__).parents[2]
PREPARED = (
    "the data and the measurement are those of params.yaml for all trials; "
    "allowed are model.* and train.* (without train.start_from)"
)


def load(folder, text, *options, trials=None):
    (folder / "sweep.yaml").write_text(text)
    return load_sweep(folder / "sweep.yaml", options, trials)


@pytest.mark.parametrize("name", [sweep.name for sweep in list_sweeps()])
def test_a_sweep_of_the_project_is_valid_and_starts_with_the_present_params(folder, name):
    sweep = load_sweep(find_sweep(name), [], None)
    assert sweep.title
    assert sweep.start().params == {key: flatten(read_yaml(ROOT / "params.yaml"))[key] for key in sweep.search}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails: 3", "sweep.yaml: trails: unknown key; allowed are trials, sampler, set, search"),
        ("sampler: grid", "sweep.yaml: sampler: found 'grid', allowed are tpe, random"),
        ("trials: 0", "sweep.yaml: trials: found 0, allowed is a whole number from 1 to 10000"),
        ("trials: 2.5", "sweep.yaml: trials: found 2.5, allowed is a whole number from 1 to 10000"),
        ("trials: 3", "sweep.yaml: search: missing; allowed is a mapping of params to {low, high} or {choices}"),
        ("search: [1]", "sweep.yaml: search: found [1], allowed is a mapping of params"),
        (
            "search: {model.dropout: 3}",
            "sweep.yaml: search.model.dropout: found 3, allowed is {low, high}, with log or step, or {choices}, at",
        ),
        (
            "search: {model.num_hiden: {low: 8, high: 9}}",
            "sweep.yaml: search.model.num_hiden: no such param; did you mean model.num_hidden?",
        ),
        (
            "set: {train: {epoch: 3}}\nsearch: {model.num_hidden: {low: 8, high: 9}}",
            "sweep.yaml: set.train.epoch: no such param; did you mean train.epochs?",
        ),
        (
            "search: {model.num_hidden: {lo: 8, high: 9}}",
            "sweep.yaml: search.model.num_hidden: found {'lo': 8, 'high': 9}, allowed is {low, high}, with log or step",
        ),
        (
            "search: {model.num_hidden: {low: 9, high: 8}}",
            "sweep.yaml: search.model.num_hidden: `low <= high` must hold, but got (low=9, high=8)",
        ),
        (
            "search: {model.num_hidden: {low: x, high: 8}}",
            "sweep.yaml: search.model.num_hidden: found {'low': 'x', 'high': 8}, allowed is {low, high}, with",
        ),
        (
            "search: {model.dropout: {low: 0, high: 0.5, log: true}}",
            "sweep.yaml: search.model.dropout: `low > 0` must hold for `log=True`",
        ),
        (
            "search: {model.dropout: {low: 0.1, high: 0.5, log: true, step: 0.1}}",
            "sweep.yaml: search.model.dropout: The parameter `step` is not supported when `log` is true",
        ),
        (
            "search: {model.num_hidden: {low: 8, high: 16, step: 0}}",
            "sweep.yaml: search.model.num_hidden: `step > 0` must hold",
        ),
        (
            "search: {model.cell: {choices: [lstm]}}",
            "sweep.yaml: search.model.cell: found {'choices': ['lstm']}, allowed is {low, high}, with log or step, or",
        ),
        (
            "search: {model.cell: {choices: [lstm, lstm]}}",
            'sweep.yaml: search.model.cell: found ["lstm", "lstm"], allowed are distinct values',
        ),
        ("search: {model.cell: {choices: [lstm, grru]}}", "sweep.yaml: model.cell: found \"grru\", allowed is 'lstm'"),
        (
            "search: {model.dropout: {low: 0.0, high: 1.0}}",
            "sweep.yaml: model.dropout: found 1.0, allowed is less than",
        ),
        (
            "search: {model.num_hidden: {low: 8.5, high: 16}}",
            "sweep.yaml: model.num_hidden: found 8.5, allowed is a valid integer",
        ),
        (
            "set: {model.dropout: 0.1}\nsearch: {model.dropout: {low: 0.0, high: 0.5}}",
            "sweep.yaml: model.dropout: found under set and under search, allowed is one of them",
        ),
        (
            "search: {clean.lowercase: {choices: [true, false]}}",
            f"sweep.yaml: search.clean.lowercase: {PREPARED}",
        ),
        ("search: {split.buckets: {choices: [[32], [64]]}}", "sweep.yaml: search.split.buckets: the data and the"),
        (
            "search: {evaluate.window: {low: 8, high: 9}}",
            "sweep.yaml: search.evaluate.window: the data and the measure",
        ),
        ("search: {train.start_from: {choices: [null, a]}}", "sweep.yaml: search.train.start_from: the data and the"),
        ("set: {split: {train_fraction: 0.8}}", "sweep.yaml: set.split.train_fraction: the data and the measurement"),
        (
            "search: {train.optimizer.name: {choices: [adamw, sgd]}}",
            "sweep.yaml: train.optimizer: beta2 is not read by sgd; allowed are momentum, or null",
        ),
        ("set: {model: {num_hidden: 0}}\nsearch: {model.dropout: {low: 0.0, high: 0.5}}", "model.num_hidden: found 0"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(folder, text, message):
    with pytest.raises(UserError) as caught:
        load(folder, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.num_hidden", "-S: found 'model.num_hidden', allowed is key=value"),
        ("model.num_hiden=8", "-S model.num_hiden: no such param; did you mean model.num_hidden?"),
        ("data.source=a.txt", f"-S data.source: {PREPARED}"),
        ("train.start_from=base", f"-S train.start_from: {PREPARED}"),
        ("num_hiden=8", "-S num_hiden: no such param; did you mean model.num_hidden?"),
        ("train.lr=8", "-S train.lr: no such param; did you mean train.optimizer.lr?"),
        ("model.dropout=0.1", "-S model.dropout: found a param that sweep.yaml searches, allowed are others"),
        ("train.batch_size=0", "-S: train.batch_size: found 0, allowed is greater than or equal to 1"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(folder, option, message):
    with pytest.raises(UserError) as caught:
        load(folder, "search: {model.dropout: {low: 0.0, high: 0.5}}", option)
    assert str(caught.value) == message


def test_an_unknown_sweep_is_refused():
    with pytest.raises(UserError, match=r"sweep: found 'quik', allowed are quick, .* or the path of a .yaml file"):
        find_sweep("quik")
    with pytest.raises(UserError, match=r"gone.yaml: no such file"):
        load_sweep(find_sweep("gone.yaml"), [], None)


def test_options_win_over_the_file_and_reach_every_trial(folder):
    text = "trials: 3\nset: {train: {epochs: 2}}\nsearch: {model: {dropout: {low: 0.0, high: 0.5}}}"
    sweep = load(folder, text, "train.epochs=3", "train.clip.by=value", trials=9)
    assert (sweep.trials, list(sweep.search)) == (9, ["model.dropout"])
    assert sweep.fixed == {"train.epochs": 3, "train.clip.by": "value"}
    params = sweep.params({"model.dropout": 0.25})
    assert (params["train.epochs"], params["model.dropout"], params["train.batch_size"]) == (3, 0.25, 32)
    assert sweep.identity([]) != load(folder, text).identity([])


def test_values_outside_of_the_space_do_not_start_the_search(folder):
    assert load(folder, "search: {model.num_hidden: {low: 8, high: 32}}").start() is None
    assert load(folder, "search: {model.num_hidden: {low: 380, high: 390, step: 3}}").start() is None
    assert load(folder, "search: {model.cell: {choices: [gru, rnn]}}").start() is None
    assert load(folder, "search: {train.optimizer.beta2: {choices: [0.9, 0.98]}}").start().params == {
        "train.optimizer.beta2": "0.98"
    }


@pytest.mark.parametrize(
    ("search", "size"),
    [
        ("model.num_hidden: {low: 8, high: 10}", 3),
        ("model.num_hidden: {low: 8, high: 32, step: 8}, model.cell: {choices: [lstm, gru]}", 8),
        ("model.dropout: {low: 0.0, high: 0.5, step: 0.1}", 6),
        ("model.dropout: {low: 0.0, high: 0.5}", 20),
    ],
)
def test_a_sweep_ends_when_its_space_is_exhausted(folder, search, size):
    assert load(folder, f"search: {{{search}}}").wanted() == size

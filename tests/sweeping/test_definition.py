from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.params.reader import flatten, read_yaml
from pipeline.sweeping.definition import find_sweep, list_sweeps, load_sweep
from pipeline.sweeping.runner import best_command
from pipeline.sweeping.space import Choices, Range

ROOT = Path(__file__).parents[2]


def load(folder, text, *options, trials=None):
    (folder / "sweep.yaml").write_text(text)
    return load_sweep(folder / "sweep.yaml", options, trials)


@pytest.mark.parametrize("name", [sweep.name for sweep in list_sweeps()])
def test_a_sweep_of_the_project_is_valid_and_starts_with_the_present_params(folder, name):
    sweep = load_sweep(find_sweep(name), [], None)
    assert sweep.title
    assert sweep.start() == {key: flatten(read_yaml(ROOT / "params.yaml"))[key] for key in sweep.search}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails: 3", "sweep.yaml: trails: unknown key; did you mean trials?"),
        ("trials: 0", "sweep.yaml: trials: found 0, allowed is a whole number from 1 to 10000"),
        ("trials: 2.5", "sweep.yaml: trials: found 2.5, allowed is a whole number from 1 to 10000"),
        ("trials: 3", "sweep.yaml: search: missing; allowed is a mapping of params to {low, high} or {choices}"),
        ("search: [1]", "sweep.yaml: search: found list, allowed is a mapping of params"),
        (
            "search: {model.dropout: 3}",
            "sweep.yaml: search.model.dropout: found 3, allowed is {low, high} or {choices}",
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
            "sweep.yaml: search.model.num_hidden.low: missing (and 1 more)",
        ),
        (
            "search: {model.num_hidden: {low: 9, high: 8}}",
            "sweep.yaml: search.model.num_hidden: found low 9 and high 8, allowed is a low under high",
        ),
        (
            "search: {model.num_hidden: {low: x, high: 8}}",
            'sweep.yaml: search.model.num_hidden.low: found "x", allowed is a number',
        ),
        (
            "search: {model.dropout: {low: 0, high: 0.5, log: true}}",
            "sweep.yaml: search.model.dropout: found log with low 0, allowed is a low over 0",
        ),
        (
            "search: {model.dropout: {low: 0.1, high: 0.5, log: true, step: 0.1}}",
            "sweep.yaml: search.model.dropout: found log and step, allowed is one of them",
        ),
        (
            "search: {model.num_hidden: {low: 8, high: 16, step: 9}}",
            "sweep.yaml: search.model.num_hidden: found step 9, allowed is over 0 and at most 8",
        ),
        (
            "search: {model.num_hidden: {low: 8, high: 16, step: 0.5}}",
            "sweep.yaml: search.model.num_hidden: found step 0.5 between whole numbers, allowed is a whole one",
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
            "sweep.yaml: search.clean.lowercase: perplexities would not be comparable; allowed are model.*, train.*",
        ),
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
        ("model.num_hiden=8", "-S model.num_hiden: no such param in params.yaml; did you mean model.num_hidden?"),
        ("num_hiden=8", "-S num_hiden: no such param in params.yaml; did you mean model.num_hidden?"),
        ("train.lr=8", "-S train.lr: no such param in params.yaml; did you mean train.optimizer.lr?"),
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
    sweep = load(folder, text, "train.epochs=3", "data.source=a b.txt", trials=9)
    assert (sweep.trials, list(sweep.search)) == (9, ["model.dropout"])
    options = sweep.options({"model.dropout": 0.25}, jobs=1)
    assert options == ["train.epochs=3", "data.source=a b.txt", "model.dropout=0.25"]
    assert best_command(options) == "dvc exp run -S train.epochs=3 -S 'data.source=a b.txt' -S model.dropout=0.25"
    assert sweep.record() != load(folder, text).record()


def test_parallel_trials_share_the_cores(folder, monkeypatch):
    monkeypatch.setattr("pipeline.sweeping.definition.available_cores", lambda: 8)
    sweep = load(folder, "search: {model.dropout: {low: 0.0, high: 0.5}}")
    assert "train.threads=2" in sweep.options({}, jobs=3)
    assert "train.threads=1" in sweep.options({}, jobs=9)
    given = load(folder, "search: {model.dropout: {low: 0.0, high: 0.5}}", "train.threads=5")
    assert given.options({}, jobs=2) == ["train.threads=5"]


def test_a_dimension_contains_its_values():
    assert Range(low=8, high=32, step=8).holds(24)
    assert not Range(low=8, high=32, step=8).holds(25)
    assert not Range(low=8, high=32).holds(8.5)
    assert Range(low=0.0, high=0.5, step=0.1).holds(0.3)
    assert not Range(low=0.0, high=0.5).holds(None)
    assert Choices(choices=([32], [64])).holds([64])
    assert Range(low=0.001, high=0.0123456, log=True).rounded(0.01234559) == 0.0123456
    assert Range(low=0.001, high=0.1).rounded(0.033333333) == 0.03333

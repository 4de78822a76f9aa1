import pytest

from pipeline.tracking.differences import (
    MAX_NAME_LENGTH,
    _random_words,
    describe,
    differing,
    format_param,
    is_random,
    run_name,
    short_names,
)


def test_the_words_of_dvcs_random_names_are_found():
    assert len(_random_words()) > 1000


def test_random_names_are_distinguished_from_chosen_ones():
    from dvc.repo.experiments.utils import gen_random_name

    assert all(is_random(gen_random_name()) for _ in range(50))
    for name in ("muggy-toms-2", "wider", "small-lstm", "quick-0001", "Muggy-tots", "train-more"):
        assert not is_random(name)


@pytest.mark.parametrize(
    ("experiment", "changed", "name"),
    [
        ("wider", {"model.num_hidden": 128}, "wider"),
        ("muggy-toms", {"model.num_hidden": 128, "train.epochs": 2.0}, "num_hidden=128, epochs=2"),
        ("muggy-toms", {}, "muggy-toms"),
        (None, {"model.cell": "gru"}, "cell=gru"),
        (None, {}, "repro now"),
        (None, {"train.seed": 1, "generate.seed": 2}, "train.seed=1, generate.seed=2"),
        (None, {"split.buckets": [32, 64], "clean.lowercase": True}, "buckets=[32, 64], lowercase=true"),
    ],
)
def test_a_run_is_named_after_what_differs(experiment, changed, name):
    assert run_name(experiment, changed, default="repro now") == name


def test_a_name_stays_short():
    many = describe({f"train.option_{number}": number for number in range(30)})
    assert many.startswith("option_0=0, option_1=1, ")
    assert many.endswith("more")
    assert len(many) <= MAX_NAME_LENGTH
    assert describe({"data.source": f"/home/someone/{'deep/' * 30}book.txt"}).endswith("/book.txt")
    assert len(describe({f"train.{'x' * 90}": 1})) == MAX_NAME_LENGTH


def test_only_params_that_differ_are_listed_the_most_important_first():
    one = {"data.source": "a", "train.optimizer.lr": 0.01, "register.enabled": True, "model.cell": "lstm", "x": 1}
    other = one | {"register.enabled": False, "train.optimizer.lr": 0.02, "data.source": "b", "train.threads": 2}
    assert differing([one, other]) == ["data.source", "train.optimizer.lr", "register.enabled", "train.threads"]
    assert differing([one, dict(one)]) == differing([one]) == []


def test_values_of_different_types_differ():
    """1 and True are equal in Python, and so are 1 and 1.0."""
    assert differing([{"a": 1}, {"a": True}]) == ["a"]


def test_short_names_are_unique():
    keys = ["train.optimizer.name", "train.schedule.name", "model.num_hidden", "train.seed"]
    assert short_names(keys) == {
        "train.optimizer.name": "optimizer.name",
        "train.schedule.name": "schedule.name",
        "model.num_hidden": "num_hidden",
        "train.seed": "seed",
    }
    everything = [*keys, "generate.seed"]
    assert short_names(["train.seed"], all_keys=everything) == {"train.seed": "train.seed"}


def test_values_are_short():
    assert format_param({"a": None}, "a") == "null"
    assert format_param({"a": True}, "a") == "true"
    assert format_param({"a": [32, 64]}, "a") == "[32, 64]"
    assert format_param({}, "a") == "absent"
    long = format_param({"a": "/very/long/path/to/some/place/on/a/disk/book.txt"}, "a")
    assert long.endswith("book.txt")
    assert len(long) == 24

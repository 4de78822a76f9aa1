import pytest

from pipeline.tracking.execution import MAX_NAME, _random_words, describe, is_random, run_name, short_names


def test_the_words_of_dvcs_random_names_are_found():
    assert len(_random_words()) > 1000


def test_a_random_name_is_known_from_one_that_a_person_chose():
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
    assert run_name(experiment, changed, otherwise="repro now") == name


def test_a_name_stays_short():
    many = describe({f"train.option_{number}": number for number in range(30)})
    assert many.startswith("option_0=0, option_1=1, ")
    assert many.endswith("more")
    assert len(many) <= MAX_NAME
    assert describe({"data.source": f"/home/someone/{'deep/' * 30}book.txt"}).endswith("/book.txt")
    assert len(describe({f"train.{'x' * 90}": 1})) == MAX_NAME


def test_short_names_stay_distinct():
    keys = ["train.optimizer.name", "train.schedule.name", "model.dropout"]
    assert list(short_names(keys).values()) == ["train.optimizer.name", "train.schedule.name", "dropout"]

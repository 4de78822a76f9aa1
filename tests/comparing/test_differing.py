from pipeline.comparing.differing import differing, short_names, value_text


def test_only_what_differs_is_named_the_most_important_first():
    one = {"data.source": "a", "train.optimizer.lr": 0.01, "register.enabled": True, "model.cell": "lstm", "x": 1}
    other = one | {"register.enabled": False, "train.optimizer.lr": 0.02, "data.source": "b", "train.threads": 2}
    assert differing([one, other]) == ["data.source", "train.optimizer.lr", "register.enabled", "train.threads"]
    assert differing([one, dict(one)]) == differing([one]) == []


def test_equal_is_not_enough():
    """1 and True are equal in Python, and so are 1 and 1.0."""
    assert differing([{"a": 1}, {"a": True}]) == ["a"]


def test_names_are_as_short_as_they_are_clear():
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
    assert value_text({"a": None}, "a") == "null"
    assert value_text({"a": True}, "a") == "true"
    assert value_text({"a": [32, 64]}, "a") == "[32, 64]"
    assert value_text({}, "a") == "absent"
    long = value_text({"a": "/very/long/path/to/some/place/on/a/disk/book.txt"}, "a")
    assert long.endswith("book.txt")
    assert len(long) == 24

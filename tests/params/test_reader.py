from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.errors import UserError
from pipeline.params.groups import GROUPS
from pipeline.params.reader import flatten, parse_group, read_group, read_groups, read_yaml
from pipeline.params.text import SplitParams
from pipeline.params.training import ModelParams, TrainParams

PARAMS = Path(__file__).parents[2] / "params.yaml"


def edited(tmp_path, change):
    content = read_yaml(PARAMS)
    change(content)
    path = tmp_path / "params.yaml"
    YAML().dump(content, path)
    return path


def test_scientific_notation_is_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train:\n  optimizer:\n    lr: 1e-5\n")
    assert read_group("train", TrainParams, path).optimizer.lr == 1e-5


@pytest.mark.parametrize(
    ("group", "value", "expected"),
    [
        ("model", {"num_hiden": 128}, "model.num_hiden: unknown key; did you mean num_hidden?"),
        ("train", {"optimizer": {"learning": 1}}, "train.optimizer.learning: unknown key; allowed are name, lr"),
        ("train", {"schedule": {"nme": "cosine"}}, "train.schedule.nme: unknown key; did you mean name?"),
        ("model", {"dropout": 1.5}, "model.dropout: found 1.5, allowed is less than 1"),
        ("model", {"dropout": float("nan")}, "model.dropout: found NaN, allowed is a finite number"),
        ("train", {"workers": 5}, "train: found 5 workers, allowed are at most 4: parts is 4, batch_size 32"),
        ("train", {"workers": 3, "parts": 8, "batch_size": 2}, "train: found 3 workers, allowed are at most 2"),
        ("model", {"num_hidden": 0}, "model.num_hidden: found 0, allowed is greater than or equal to 1"),
        ("model", {"num_hidden": "128"}, 'model.num_hidden: found "128", allowed is a valid integer'),
        ("model", {"cell": "lstmm"}, "model.cell: found \"lstmm\", allowed is 'lstm', 'gru' or 'rnn'"),
        ("clean", {"lowercase": "yes"}, 'clean.lowercase: found "yes", allowed is true or false'),
        ("split", {"buckets": []}, "split.buckets: found [], allowed is at least 1 item"),
        ("split", {"buckets": "Auto"}, "split.buckets: found \"Auto\", allowed is a valid array or 'auto'"),
        ("split", {"group_by": ""}, 'split.group_by: found "", allowed is at least 1 character'),
        (
            "split",
            {"by": "column", "column": "year", "train_until": 2010, "eval_until": 2008},
            "split: eval_until 2008 comes before train_until 2010",
        ),
        (
            "data",
            {"source": "sotu", "max_gb": 1e300},
            "data.max_gb: found 1e+300, allowed is less than or equal to 1000000",
        ),
        (
            "split",
            {"buckets": [100, 50]},
            "split.buckets: found [100, 50], allowed are distinct lengths in rising order",
        ),
        (
            "data",
            {"source": "sotu", "encoding": "utf8000"},
            "data.encoding: found 'utf8000', allowed is a text encoding",
        ),
        ("data", {}, "data.source: missing"),
        (
            "train",
            {"optimizer": {"name": "sgd", "beta1": 0.9}},
            "beta1 is not read by sgd; allowed are momentum, or null",
        ),
    ],
)
def test_a_wrong_value_is_told_in_one_line(group, value, expected):
    with pytest.raises(UserError) as caught:
        parse_group(group, value, GROUPS[group])
    assert expected in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_group_is_refused_with_a_suggestion(tmp_path):
    path = edited(tmp_path, lambda content: content.update(modell={}))
    with pytest.raises(UserError, match=r"modell: unknown group; did you mean model\?"):
        read_groups(GROUPS, path)


def test_a_missing_group_is_told(tmp_path):
    path = edited(tmp_path, lambda content: content.pop("train"))
    with pytest.raises(UserError, match="group 'train' is missing"):
        read_groups(GROUPS, path)


@pytest.mark.parametrize("content", ["- 1\n", "a: b: c\n", "model: {}\nmodel: {}\n", "\xff\xfe"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"^params.yaml: "):
        read_groups(GROUPS, path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match=r"params.yaml: no such file"):
        read_group("model", ModelParams, tmp_path / "params.yaml")


def test_groups_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        SplitParams().train_fraction = 0.5


def test_flatten():
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}}) == {"a.b.c": 1, "a.d": [2]}

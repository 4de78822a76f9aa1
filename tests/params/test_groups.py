import pytest

from pipeline.core.errors import UserError
from pipeline.params.groups import known_keys, override
from pipeline.params.reader import flatten, read_yaml

GROUPS = ("data", "model", "train")
VALUES = {"data": {"source": "sotu"}, "train": {"optimizer": {"lr": 0.1, "name": "adam"}}}


def test_values_are_set_at_any_depth_and_the_others_stay():
    changed = override(VALUES, ["train.optimizer.lr=0.5", "data.metadata=[a, b]", "model.num_hidden=8"], groups=GROUPS)
    assert changed == {
        "data": {"source": "sotu", "metadata": ["a", "b"]},
        "train": {"optimizer": {"lr": 0.5, "name": "adam"}},
        "model": {"num_hidden": 8},
    }
    assert VALUES["train"]["optimizer"]["lr"] == 0.1


def test_the_value_may_have_an_equals_sign():
    assert override({}, ["data.source=a=b.txt"], groups=GROUPS)["data"]["source"] == "a=b.txt"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.num_hiden=3", "-S model.num_hiden=3: unknown key model.num_hiden; did you mean model.num_hidden?"),
        ("modle.num_hidden=3", "unknown key modle.num_hidden; did you mean model.num_hidden?"),
        ("num_hidden=3", "unknown key num_hidden; did you mean model.num_hidden?"),
        ("train.lr=3", "unknown key train.lr; did you mean train.optimizer.lr?"),
        ("data.encodin=latin-1", "unknown key data.encodin; did you mean data.encoding?"),
        ("zzz=1", "unknown key zzz; allowed are keys of data, model, train"),
        ("generate.seed=1", "-S generate.seed=1: generate.seed changes nothing here; allowed are keys of data, model"),
        ("data.source", "-S data.source: found no value, allowed is key=value"),
    ],
)
def test_a_wrong_option_is_a_line_that_names_what_is_right(option, message):
    with pytest.raises(UserError) as error:
        override(VALUES, [option], groups=GROUPS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_key_of_params_yaml_is_known(request):
    assert set(flatten(read_yaml(request.config.rootpath / "params.yaml"))) <= set(known_keys())

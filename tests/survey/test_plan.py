import json
import shutil
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.params.groups import GROUPS, write_values
from pipeline.params.reader import read_groups, read_yaml
from pipeline.survey.plan import changed_values, changes
from pipeline.survey.survey import Advice

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def path(tmp_path):
    return Path(shutil.copy(PARAMS, tmp_path / "params.yaml"))


def planned(path, advice, options=()):
    before = read_yaml(path)
    after, reasons = changes(before, advice, options)
    return changed_values(before, after), {one.key: one.why for one in reasons}


def test_only_the_lines_of_the_chosen_keys_change(path):
    advice = [Advice("data.source", "été.txt", "the text"), Advice("generate.prompts", '["Où est", "Il y a"]', "")]
    values, _ = planned(path, advice, ["train.optimizer.lr=0.02"])
    write_values(path, values)
    before, after = PARAMS.read_text().splitlines(), path.read_text().splitlines()
    changed = [new.split("#")[0].strip() for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["source: été.txt", "lr: 0.02", "prompts: [Où est, Il y a]"]
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in zip(before, after, strict=True))
    assert read_groups(GROUPS, path)["generate"].prompts == ("Où est", "Il y a")


def test_edits_of_other_keys_stay(path):
    path.write_text(path.read_text().replace("seed: 7", "seed: 9"))
    write_values(path, planned(path, [Advice("data.source", "a.txt", "")])[0])
    assert read_yaml(path)["train"]["seed"] == 9


def test_what_an_earlier_text_needed_is_set_back(path):
    write_values(path, {"data.text_column": "tweet", "clean.min_count": 10, "split.by": "document"})
    values, reasons = planned(path, [Advice("clean.min_count", "5", "rare")])
    assert values == {"data.text_column": "text", "clean.min_count": 5, "split.by": "position"}
    assert reasons["split.by"] == 'params.yaml had "document", for another text'


def test_a_users_own_value_wins_and_the_later_of_two_advices(path):
    advice = [Advice("train.batch_size", "8", "x"), Advice("train.epochs", "9", "x"), Advice("train.epochs", "5", "y")]
    values, reasons = planned(path, advice, ["train.batch_size=4"])
    assert (values["train.batch_size"], values["train.epochs"]) == (4, 5)
    assert reasons["train.batch_size"] == "your own choice (-S)"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.num_hiden=3", "did you mean model.num_hidden?"),
        ("train.epochs=abc", 'train.epochs: found "abc", allowed is '),
        ("train.epochs", "found no value"),
    ],
)
def test_a_wrong_option_is_refused(path, option, message):
    with pytest.raises(UserError) as error:
        planned(path, [], [option])
    assert message in str(error.value)
    assert path.read_text() == PARAMS.read_text()


def test_nothing_of_reading_cleaning_and_splitting_stays_from_an_earlier_text(path):
    earlier = {
        "data.encoding": "latin-1",
        "data.errors": "replace",
        "clean.control": "keep",
        "clean.duplicates": "keep",
        "split.dictionary_from": "train",
        "split.buckets": [64],
    }
    shipped = read_groups(GROUPS, PARAMS)
    write_values(path, earlier | {"data.max_gb": 2.0})
    values, reasons = planned(path, [Advice("data.source", "a.txt", "the text")])
    assert values.keys() - {"data.source"} == earlier.keys()
    for key in earlier:
        group, name = key.split(".")
        assert values[key] == json.loads(json.dumps(getattr(shipped[group], name)))
        assert reasons[key].endswith("for another text")

import numpy as np
import pytest
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.core.files import MODEL, read_json, write_json
from pipeline.dataset.dictionary import Dictionary
from pipeline.model.saved import NetworkConfig
from pipeline.params.training import ModelParams
from pipeline.training.start_model import ROWS, adapted_weights, copy_start_model, load_start_model

SHAPE = ModelParams(num_layers=2, num_hidden=12, num_embed=6)


def saved(tmp_path, **options):
    model = random_model(**options)
    model.save(tmp_path / "base")
    return model


def load(tmp_path, params=SHAPE, address="base"):
    return load_start_model(tmp_path / address, params, address=address, root=tmp_path)


def fresh_weights(dictionary):
    config = NetworkConfig(cell="lstm", num_layers=2, num_hidden=12, num_embed=6, dropout=0, vocab_size=len(dictionary))
    return {name: np.full(shape, 9, np.float32) for name, shape in config.shapes().items()}


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_rows_follow_their_characters(unknown, bounded):
    """The base has no z; the text has no a to g. Ids differ, and so do the symbols."""
    base, dictionary = (
        random_model(unknown=True, bounded=False),
        Dictionary.of("h \nz", unknown=unknown, bounded=bounded),
    )
    fresh = fresh_weights(dictionary)
    weights = adapted_weights(base, fresh, dictionary, np.ones(len(dictionary), dtype=np.int64))
    assert {name: value.shape for name, value in weights.items()} == {n: v.shape for n, v in fresh.items()}
    for name in weights.keys() - set(ROWS):
        assert (weights[name] == base.weights[name]).all()
    for name in ROWS:
        for char in "h \n":
            own, theirs = dictionary.encode(char)[0], base.dictionary.encode(char)[0]
            assert (weights[name][own] == base.weights[name][theirs]).all()
        if unknown:
            assert (weights[name][1] == base.weights[name][1]).all()
    for name in ("embedding.weight", "output.weight"):
        new = [dictionary.encode("z")[0], *([dictionary.begin, dictionary.end] if bounded else [])]
        assert (weights[name][new] == 9).all()


def test_a_new_characters_bias_is_its_frequency_on_the_scale_of_the_others():
    """The base's biases are logarithms of the frequencies, all moved by 3: so is the new one's."""
    base, dictionary = random_model(), Dictionary.of("abz")
    frequencies = {"a": 0.5, "b": 0.2}
    for char, share in frequencies.items():
        base.weights["output.bias"][base.dictionary.encode(char)] = np.log(share) + 3
    base.weights["output.bias"][0] = -20
    counts = np.array([0, 500_000, 200_000, 300_000])
    weights = adapted_weights(base, fresh_weights(dictionary), dictionary, counts)
    assert weights["output.bias"][3] == pytest.approx(np.log(0.3) + 3, abs=1e-3)


def test_the_same_dictionary_gives_the_same_weights():
    base = random_model(unknown=True, bounded=True)
    counts = np.ones(len(base.dictionary), dtype=np.int64)
    weights = adapted_weights(base, fresh_weights(base.dictionary), base.dictionary, counts)
    assert all((weights[name] == value).all() for name, value in base.weights.items())


@pytest.mark.parametrize(
    ("params", "found", "wanted"),
    [
        ({"cell": "gru"}, "model.cell lstm", "model.cell gru"),
        ({"num_layers": 1}, "model.num_layers 2", "model.num_layers 1"),
        ({"num_hidden": 16}, "model.num_hidden 12", "model.num_hidden 16"),
        (
            {"num_embed": 3, "num_hidden": 8},
            "model.num_hidden 12, model.num_embed 6",
            "model.num_hidden 8, model.num_em",
        ),
    ],
)
def test_another_shape_is_refused_with_both_values(tmp_path, params, found, wanted):
    saved(tmp_path)
    with pytest.raises(UserError, match=r"^train\.start_from: base has ") as error:
        load(tmp_path, SHAPE.model_copy(update=params))
    assert found in str(error.value)
    assert wanted in str(error.value)


def test_dropout_may_differ(tmp_path):
    saved(tmp_path)
    assert load(tmp_path, SHAPE.model_copy(update={"dropout": 0.5}))


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^train\.start_from: base: no model there"):
        load(tmp_path)
    saved(tmp_path)
    weights = tmp_path / "base/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"^train\.start_from: base cannot be loaded: .*damaged or cut off"):
        load(tmp_path)


def test_the_projects_own_model_is_refused(tmp_path):
    """Else each training would start from the one before, and none would be up to date."""
    with pytest.raises(UserError, match="what training replaces"):
        load(tmp_path, address=str(MODEL))


def test_only_a_models_own_files_are_copied(tmp_path):
    saved(tmp_path)
    (tmp_path / "base/model.pkl").write_bytes(b"\x80")
    copy_start_model(tmp_path / "base", tmp_path / "start")
    names = {path.name for path in (tmp_path / "start").iterdir()} - {"start.json"}
    assert names == {"weights.safetensors", "config.json", "dictionary.json"}
    for name in names:
        assert (tmp_path / "start" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    (tmp_path / "base/substrings.npy").write_bytes(b"x")
    copy_start_model(tmp_path / "base", tmp_path / "start")
    assert (tmp_path / "start/substrings.npy").exists()
    copy_start_model(None, tmp_path / "start")
    # DVC would warn about an empty folder in every command.
    assert [path.name for path in (tmp_path / "start").iterdir()] == ["start.json"]


def test_a_start_model_of_a_newer_format_is_refused(tmp_path):
    random_model().save(tmp_path / "newer")
    config = read_json(tmp_path / "newer/config.json")
    write_json(tmp_path / "newer/config.json", config | {"format": 2})
    with pytest.raises(
        UserError, match=r"^train\.start_from: newer cannot be loaded: .*format: found 2, allowed is 1; "
    ):
        load_start_model(tmp_path / "newer", ModelParams(), address="newer", root=tmp_path)

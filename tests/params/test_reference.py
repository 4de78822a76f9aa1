"""Each setting is declared once: params.yaml and docs/params-reference.md agree with the classes."""

from pathlib import Path

import pytest

from pipeline.params.groups import GROUPS, REFERENCE_FILE, allowed, fields, reference, schema_of, with_comments
from pipeline.params.reader import flatten, parse_group, read_groups, read_yaml

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
# Groups whose fields have no descriptions yet.
UNDESCRIBED_GROUPS: tuple[str, ...] = ()
# Keys without a default: params.yaml must hold them.
REQUIRED = {"data": {"source": "sotu"}}

UPDATE = "run `python -m pipeline.params.groups`"


def test_params_yaml_is_valid_and_its_values_are_the_defaults_of_the_classes():
    read_groups(GROUPS, PARAMS)
    content = read_yaml(PARAMS)
    for name, kind in GROUPS.items():
        defaults = parse_group(name, REQUIRED.get(name, {}), kind).model_dump(mode="json")
        assert flatten({name: content[name]}) == flatten({name: defaults}), "restore the shipped params.yaml"


def test_every_field_has_a_short_description():
    for key, field, _ in fields():
        if key.partition(".")[0] not in UNDESCRIBED_GROUPS:
            assert field.description, key
            assert "\n" not in field.description
            assert not field.description.endswith(".")


def test_the_comments_in_params_yaml_are_the_descriptions():
    text = PARAMS.read_text(encoding="utf-8")
    assert with_comments(text) == text, UPDATE
    assert max(map(len, text.splitlines())) <= 120


def test_comments_are_added_and_replaced_and_values_stay():
    before = "# head\nmodel:\n  num_layers: 1\n  cell: gru # old\ntrain:\n  clip:\n    at: 0.5\n"
    after = with_comments(before)
    assert "# head\nmodel:\n  num_layers: 1 # recurrent layers\n  cell: gru # the recurrent cell" in after
    assert after.endswith("train:\n  clip: # limits the gradients\n    at: 0.5 # the limit\n")
    assert with_comments(after) == after


def test_the_reference_page_is_up_to_date():
    assert (ROOT / REFERENCE_FILE).read_text(encoding="utf-8") == reference(), UPDATE


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("model.num_hidden", "integer ≥ 1, ≤ 8,192"),
        ("model.cell", "`lstm`, `gru`, `rnn`"),
        ("train.optimizer.eps", "number > 0 or null"),
        ("split.buckets", "list of integer ≥ 2, ≤ 65,535 or `auto`"),
        ("clean.lowercase", "true, false"),
        ("data.sha256", "text like `^[0-9a-f]{64}$` or null"),
    ],
)
def test_allowed_values_in_words(key, expected):
    schemas = {name: schema_of(name, kind) for name, _, kind in fields()}
    assert allowed(schemas[key]) == expected

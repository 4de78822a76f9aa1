"""Every place that takes sampling options has those of pipeline/params/sampling.py: names, bounds and defaults."""

import re
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt

from pipeline.core.errors import UserError
from pipeline.generation.drawing import RULE
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import parse_group
from pipeline.params.sampling import Sampling, sampling_options
from pipeline.serving.completions import CompletionRequest, Limits

OPTIONS = sampling_options()
SETTINGS = Path(__file__).parents[2] / "pipeline/serving/page/settings.js"
# Fields of params.yaml that are sampling options; the others (prompts, num_samples, precision) are not.
SHARED = {name: name for name in GenerateParams.model_fields if name in OPTIONS} | {"num_chars": "max_new_chars"}
# A request may ask for no new characters; params.yaml may not.
LOWER_IN_SAMPLING = {"num_chars"}
STEP = {float: 1e-6, int: 1}


def bounds(field):
    info = GenerateParams.model_fields[field]
    step = STEP[info.annotation]
    low = high = None
    for one in info.metadata:
        if isinstance(one, Ge | Gt):
            low = one.ge if isinstance(one, Ge) else one.gt + step
        if isinstance(one, Le | Lt):
            high = one.le if isinstance(one, Le) else one.lt - step
    return low, high, step


def test_params_yaml_has_the_options_that_make_sense_for_every_prompt():
    only_in_requests = {"frequency_penalty", "presence_penalty", "logit_bias", "allowed", "stop"}
    assert set(SHARED.values()) == set(OPTIONS) - only_in_requests
    assert set(GenerateParams().sampling()) == set(SHARED.values())


@pytest.mark.parametrize("field", SHARED)
def test_what_params_yaml_accepts_generation_accepts(field):
    low, high, step = bounds(field)
    assert low is not None
    assert high is not None
    for value in (low, high):
        parse_group("generate", {field: value}, GenerateParams)
        Sampling(**{SHARED[field]: value})
    for value in (low - step, high + step):
        with pytest.raises(UserError, match=f"^params.yaml: generate.{field}: "):
            parse_group("generate", {field: value}, GenerateParams)
        if value > high or field not in LOWER_IN_SAMPLING:
            with pytest.raises(UserError, match=f"^{SHARED[field]}: "):
                Sampling(**{SHARED[field]: value})


def test_every_option_is_described_and_its_default_is_within_its_bounds():
    Sampling()
    for name, option in OPTIONS.items():
        assert option.description, name
        assert option.is_within(option.default), name


def test_the_compiled_rule_has_every_option_that_changes_probabilities():
    elsewhere = {"max_new_chars", "logit_bias", "allowed", "stop"}
    assert set(RULE.names) - {"position"} == set(OPTIONS) - elsewhere


def test_a_request_has_every_option_with_its_default():
    fields = CompletionRequest.model_fields
    assert {"max_tokens" if name == "max_new_chars" else name for name in OPTIONS} <= set(fields)
    assert CompletionRequest(seed=0).sampling() == Sampling()


def test_the_pages_numbers_have_the_options_bounds():
    controls = re.findall(
        r'field: "(\w+)".*?start: (\S+),.*?least: (\S+), most: ([\d *]+)', SETTINGS.read_text(), re.DOTALL
    )
    assert len(controls) == 7
    for field, start, least, most in controls:
        option = OPTIONS["max_new_chars" if field == "max_tokens" else field]
        high = Limits().max_tokens if field == "max_tokens" else option.high
        assert eval(most) == high, field  # noqa: S307  the page's own "2 ** 31"
        assert option.is_within(float(least)), field
        assert float(least) <= float(start) <= high, field
        assert float(least) == option.low or field in {"top_p", "max_tokens"}, field

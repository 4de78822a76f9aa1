"""What the input check of params.yaml lets pass, generation takes: the bounds agree for every field."""

import pytest
from annotated_types import Ge, Gt, Le, Lt

from pipeline.core.errors import UserError
from pipeline.generation.sampling import Sampling
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import parse_group

# The names of the fields that generation has too; the others (prompts, num_samples, precision) are no options of it.
SHARED = {name: name for name in GenerateParams.model_fields if name in Sampling.__dataclass_fields__}
SHARED |= {"num_chars": "max_new_chars"}
# The server may be asked for no new character; params.yaml may not.
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


def test_every_option_of_generation_is_looked_at():
    only_in_requests = {"allowed", "stop", "presence_penalty", "frequency_penalty", "logit_bias"}
    assert set(SHARED.values()) == set(Sampling.__dataclass_fields__) - only_in_requests


@pytest.mark.parametrize("field", SHARED)
def test_the_bounds_agree(field):
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

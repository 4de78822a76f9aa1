import numpy as np
import pandas as pd
import pytest
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.serving.pyfunc_model import PARAMS, answer, read_params, read_prompts

WRITER = Writer(random_model())


@pytest.mark.parametrize(
    "data",
    [
        ["a", "b"],
        {"prompt": ["a", "b"]},
        {"prompt": np.array(["a", "b"])},
        pd.DataFrame({"prompt": ["a", "b"]}),
        pd.DataFrame({0: ["a", "b"]}),
        pd.DataFrame([{"prompt": ["a", "b"]}]),
        np.array(["a", "b"]),
    ],
)
def test_prompts_in_every_form(data):
    assert read_prompts(data) == ["a", "b"]


def test_one_prompt():
    assert read_prompts("a") == read_prompts({"prompt": "a"}) == ["a"]


@pytest.mark.parametrize(
    "data", [None, 3, [3], [None], {"text": ["a"]}, pd.DataFrame({"x": ["a"], "y": ["b"]}), ["a"] * 1025]
)
def test_an_invalid_prompt_is_refused(data):
    with pytest.raises(UserError, match=r"^prompt: "):
        read_prompts(data)


def test_one_object_a_prompt():
    first, second = answer(WRITER, ["abc", "x"], {"max_new_chars": 5, "seed": 1})
    assert list(first) == ["prompt", "completion", "text", "finish_reason", "warnings"]
    assert first["text"] == "abc" + first["completion"]
    assert len(first["completion"]) == 5
    assert second["warnings"] == ["dropped 1 characters that the model does not know: 'x'"]


def test_a_text_depends_on_its_own_prompt_and_seed_alone():
    alone = answer(WRITER, ["abc"], {"seed": 4})
    assert answer(WRITER, ["x", "abc", "d"], {"seed": 4})[1] == alone[0]


@pytest.mark.parametrize(
    "params",
    [
        {"max_new_chars": -1},
        {"max_new_chars": 10_001},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"seed": -1},
        {"stop": [""]},
        {"stops": ["a"]},
    ],
)
def test_a_wrong_param_is_named(params):
    with pytest.raises(UserError, match=f"^{next(iter(params))}: "):
        read_params(params)


def test_the_defaults_are_valid():
    assert read_params({}) == read_params({name: default for name, _, default in PARAMS})

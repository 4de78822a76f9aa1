import numpy as np
import pandas as pd
import pytest
from mlflow.models.utils import _enforce_params_schema
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.serving.pyfunc_model import PARAMS, answer, read_params, read_prompts, stream_answer
from pipeline.serving.registration import signature

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
        {"stop": [None]},
        {"stop": ["a", None]},
        {"stop": [["a"]]},
        {"stop": 3},
        {"max_new_chars": "5"},
        {"max_new_chars": 1.5},
        {"max_new_chars": {"a": 1}},
        {"temperature": True},
        {"temperature": [1.0]},
        {"top_k": float("nan")},
        {"temperature": 10**400},
        {"stops": ["a"]},
    ],
)
def test_a_wrong_param_is_named(params):
    with pytest.raises(UserError, match=f"^{next(iter(params))}: "):
        read_params(params)


def test_the_defaults_are_valid():
    assert read_params({}) == read_params({name: default for name, _, default in PARAMS})


def test_null_means_the_default():
    assert read_params({name: None for name, _, _ in PARAMS}) == read_params({})
    # MLflow's own check of the params lets null through, alone and in a list.
    nothing = {"temperature": None, "seed": None, "allowed": None, "stop": [None]}
    checked = _enforce_params_schema(nothing, signature().params)
    with pytest.raises(UserError, match=r"^stop: found \[None\], allowed is a string or a list of strings$"):
        read_params(checked)
    assert read_params(checked | {"stop": []}) == read_params({})


def test_the_characters_of_a_request_are_limited_all_together():
    with pytest.raises(UserError, match=r"^max_new_chars: found 1,010,101 characters of prompts and completions"):
        answer(WRITER, ["a"] * 101, {"max_new_chars": 10_000})
    with pytest.raises(UserError, match=r"^max_new_chars: found 1,000,001 characters"):
        answer(WRITER, ["a" * 1_000_001], {"max_new_chars": 0})
    with pytest.raises(UserError, match=r"^max_new_chars: "):
        next(stream_answer(WRITER, "a" * 1_000_000, {"max_new_chars": 1}))

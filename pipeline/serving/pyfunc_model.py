"""The MLflow pyfunc model: prompts and params in, one object per prompt out.

MLflow logs this file as code, so no pickle is needed.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Completion
from pipeline.params.sampling import Sampling, sampling_options

MAX_PROMPTS = 1024
# A request must finish within MLflow's limit of 60 seconds; MLflow cannot stop one that does not.
MAX_NEW_CHARS = 10_000
# Characters of all prompts and completions of a request.
MAX_CHARS_IN_ALL = 1_000_000

MLFLOW_TYPES = {int: "long", float: "double"}
# Name, MLflow type and default of each param. MLflow has no null and no pairs: "" means all characters are allowed.
PARAMS: tuple[tuple[str, str, Any], ...] = tuple(
    (name, MLFLOW_TYPES.get(option.kind, "string"), {"allowed": "", "stop": []}.get(name, option.default))
    for name, option in sampling_options().items()
    if name not in {"frequency_penalty", "presence_penalty", "logit_bias"}
)


def read_prompts(data: Any) -> list[str]:
    """Return the prompts in a DataFrame with a column `prompt` (or only one column), a mapping, a list or a string."""
    if isinstance(data, Mapping):
        data = data.get("prompt")
    if isinstance(data, pd.DataFrame):
        data = _column(data)
    if isinstance(data, np.ndarray) and data.ndim == 0:  # {"inputs": {"prompt": "a"}} over HTTP
        data = data.item()
    if isinstance(data, str):
        data = [data]
    if data is None or not isinstance(data, Iterable):
        raise UserError(f"prompt: found {type(data).__name__}, allowed is a string or a list of strings")
    # MLflow turns {"prompt": ["a", "b"]} into a frame with one cell, which contains the list.
    prompts = [prompt for one in data for prompt in (one if isinstance(one, list | tuple | np.ndarray) else [one])]
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise UserError(f"prompt: found {type(prompt).__name__}, allowed is a string")
    if len(prompts) > MAX_PROMPTS:
        raise UserError(f"prompt: found {len(prompts)}, allowed are at most {MAX_PROMPTS} in one request")
    return prompts


def _column(data: pd.DataFrame) -> list[Any]:
    if "prompt" not in data.columns and data.shape[1] != 1:
        raise UserError(f"prompt: no such column; found {', '.join(map(str, data.columns))}")
    return list(data["prompt" if "prompt" in data.columns else data.columns[0]])


def read_params(params: Mapping[str, Any] | None) -> Sampling:
    """Return the sampling options in a client's params; null means the default.

    UserError names one that is unknown, of another type, or out of range.
    """
    given = {name: value for name, value in (params or {}).items() if value is not None}
    known = {name: default for name, _, default in PARAMS}
    for name in given:
        if name not in known:
            raise UserError(f"{name}: unknown param; allowed are {', '.join(known)}")
    values = known | given
    stop = [values["stop"]] if isinstance(values["stop"], str) else values["stop"]
    if not isinstance(stop, list | tuple | np.ndarray) or not all(isinstance(text, str) for text in stop):
        raise UserError(f"stop: found {values['stop']!r}, allowed is a string or a list of strings")
    converted = {
        name: _number(name, values[name], option.kind)
        for name, option in sampling_options().items()
        if name in known and option.kind in MLFLOW_TYPES
    }
    if not 0 <= converted["max_new_chars"] <= MAX_NEW_CHARS:
        raise UserError(f"max_new_chars: found {converted['max_new_chars']}, allowed is 0 to {MAX_NEW_CHARS}")
    return Sampling(**converted, allowed=str(values["allowed"]) or None, stop=tuple(map(str, stop)))


def _number(name: str, value: Any, kind: type) -> Any:
    """Return a param as `kind`, int or float; over HTTP a number may arrive as the other one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise UserError(f"{name}: found {value!r}, allowed is a number")
    try:
        converted = kind(value)
    except (OverflowError, ValueError):  # a number beyond float's range; infinity and NaN as a whole number
        raise UserError(f"{name}: found {value}, which is no number that it can be") from None
    if kind is int and converted != value:
        raise UserError(f"{name}: found {value}, allowed is a whole number")
    return converted


def check_size(prompts: list[str], sampling: Sampling) -> None:
    """Check that prompts and completions are not too long, all together; else UserError."""
    size = sum(map(len, prompts)) + len(prompts) * sampling.max_new_chars
    if size > MAX_CHARS_IN_ALL:
        message = f"{size:,} characters of prompts and completions in one request, allowed are {MAX_CHARS_IN_ALL:,}"
        raise UserError(f"max_new_chars: found {message}")


def answer(writer: Writer, data: Any, params: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return one object per prompt: prompt, completion, text, finish_reason, warnings."""
    prompts, sampling = read_prompts(data), read_params(params)
    check_size(prompts, sampling)
    return [_as_json(done) for done in writer.generate(prompts, sampling)]


def stream_answer(writer: Writer, data: Any, params: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the characters that follow the one prompt in `data`, one by one; UserError if there are more prompts."""
    prompts = read_prompts(data)
    if len(prompts) != 1:
        raise UserError(f"prompt: found {len(prompts)}, allowed is one in a stream")
    sampling = read_params(params)
    check_size(prompts, sampling)
    for one in writer.stream(prompts[0], sampling):
        yield one.char


def _as_json(completion: Completion) -> dict[str, Any]:
    return {
        "prompt": completion.prompt,
        "completion": completion.completion,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "warnings": list(completion.warnings),
    }


class Predicting:
    """`predict` is in this class because MLflow would take type hints of CharModel's own `predict` for a schema.

    The schema is the logged signature instead.
    """

    writer: Writer

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return one object per prompt; MLflow's server answers 400 with the message if the input is wrong."""
        del context
        try:
            return answer(self.writer, model_input, params)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def predict_stream(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Yield the characters that follow one prompt, as they are generated."""
        del context
        try:
            yield from stream_answer(self.writer, model_input, params)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


class CharModel(Predicting, PythonModel):  # type: ignore[misc]
    """Continues prompts: `read_prompts` and `read_params` describe the input, `answer` the output."""

    def load_context(self, context: Any) -> None:
        """Load the model from the artifacts, and its kernels, compiled or from the cache, before any request."""
        self.writer = Writer.load(Path(context.artifacts["model"]))
        self.writer.warm_up()


mlflow.models.set_model(CharModel())

"""OpenAI's completions in its own JSON: what may be asked, and what an answer looks like. Knows no HTTP."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.errors import UserError
from pipeline.generation.pieces import Character
from pipeline.generation.sampling import MAX_STOPS, Sampling
from pipeline.serving.limits import Limits

# Seeds that survive JSON in every client: JavaScript's numbers are exact to here.
MAX_SEED = (1 << 53) - 1


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """POST /v1/completions. OpenAI's fields mean what they mean there, except that a token is a character.

    `top_k`, `min_p`, `repetition_penalty`, `repetition_window` and `allowed` are this server's own. A field that it
    does not know is refused.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    prompt: str | list[str] = ""
    max_tokens: int | None = 100
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    n: int | None = 1
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 64
    allowed: str | None = None

    @field_validator("prompt", "stop", "allowed")
    @classmethod
    def _is_unicode(cls, value: str | list[str] | None) -> str | list[str] | None:
        if any("\ud800" <= char <= "\udfff" for text in value or () for char in text):
            raise PydanticCustomError("surrogate", "holds half of a surrogate pair, allowed is Unicode text")
        return value

    @property
    def prompts(self) -> list[str]:
        """The prompts, one or many."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def samples(self) -> int:
        """How many texts are written for each prompt."""
        return 1 if self.n is None else self.n

    def sampling(self) -> Sampling:
        """Return how texts are written; without a seed, one is drawn. UserError names an option out of range."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_new_chars=100 if self.max_tokens is None else self.max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            repetition_window=self.repetition_window,
            allowed=self.allowed,
            seed=secrets.randbelow(1 << 32) if self.seed is None else self.seed,
            stop=stop,
        )

    def check(self, limits: Limits, model: str) -> None:
        """Return if this server takes the request on; else UserError that names the field."""
        if self.model not in (None, "", model):
            raise UnknownModelError(f"model: found {self.model!r}, allowed is {model!r}")
        if not self.prompts:
            raise UserError("prompt: found an empty list, allowed is a string or at least one")
        for prompt in self.prompts:
            if len(prompt) > limits.prompt_chars:
                raise UserError(
                    f"prompt: found {len(prompt):,} characters, allowed are at most {limits.prompt_chars:,}"
                )
        if self.max_tokens is not None and not 0 <= self.max_tokens <= limits.max_tokens:
            raise UserError(f"max_tokens: found {self.max_tokens}, allowed is 0 to {limits.max_tokens}")
        if self.samples < 1 or self.samples * len(self.prompts) > limits.texts:
            raise UserError(f"n: found {self.samples}, allowed is 1 to {limits.texts // len(self.prompts)}")
        if self.stream_options is not None and not self.stream:
            raise UserError("stream_options: found without stream, allowed only with stream: true")
        if self.stop is not None and len(self.stop) > MAX_STOPS and not isinstance(self.stop, str):
            raise UserError(f"stop: found {len(self.stop)} strings, allowed are at most {MAX_STOPS}")


class UnknownModelError(UserError):
    """A model is asked for that this server does not have."""


def logprobs_of(characters: Sequence[Character | None], text: str, offset: int) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of the characters of `text`; None is one that the model does not know."""
    return {
        "tokens": list(text),
        "token_logprobs": [None if one is None else one.log_prob for one in characters],
        "top_logprobs": [None if one is None else dict(one.alternatives) for one in characters],
        "text_offset": list(range(offset, offset + len(text))),
    }


def usage_of(prompt_chars: int, written: int) -> dict[str, int]:
    """Return OpenAI's `usage`, in characters."""
    return {"prompt_tokens": prompt_chars, "completion_tokens": written, "total_tokens": prompt_chars + written}


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}

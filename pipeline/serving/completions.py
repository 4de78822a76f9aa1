"""OpenAI's completions API as data: the fields of a request, their checks, and the parts of a response."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.errors import UserError
from pipeline.params.sampling import MAX_STOPS, Sampling, sampling_options


@dataclass(frozen=True)
class Limits:
    """Limits of a request, and of all requests at once.

    `texts` limits the number of prompts times n, `seconds` the time of a request. `in_flight` texts are generated at
    once; `queue` more may wait. `response_bytes` limits a response, as estimated; all requests in progress may hold
    `held_bytes` in responses. `charlm serve` has options for all but the first two, `texts` and `held_bytes`.
    """

    body_bytes: int = 2_000_000
    prompt_chars: int = 100_000
    max_tokens: int = 20_000
    texts: int = 64
    seconds: float = 120.0
    in_flight: int = 256
    queue: int = 256
    response_bytes: int = 32_000_000

    @property
    def held_bytes(self) -> int:
        """What all requests in progress may hold."""
        return REQUESTS_HELD * self.response_bytes


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of connections; `charlm serve` has an option for each.

    `header_bytes` limits a request's path and headers. Times are in seconds: `header_seconds` from a request's first
    byte (or the connection's start) to the end of its headers, `body_seconds` from there to the end of its body;
    `send_seconds` is the time in which a client takes nothing of its response; `keep_alive` the time between requests.
    """

    connections: int = 512
    header_bytes: int = 32_768
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    send_seconds: float = 30.0
    keep_alive: int = 75


# Requests with the largest response that may be in progress at once.
REQUESTS_HELD = 8
# JSON of a character in a response; of its log-probability, token and offset; and of each alternative. Generous.
TEXT_BYTES, SCORE_BYTES, ALTERNATIVE_BYTES = 4, 40, 28
# Entries of logit_bias, and strings in a list; a body may contain hundreds of thousands, and each would be checked.
MOST_ENTRIES = 10_000
# Characters of an unknown field's name that an error repeats.
SHOWN_NAME = 100

T = TypeVar("T")
# A list whose first wrong entry is reported, not each of them.
Texts = Annotated[list[str], Field(fail_fast=True)]

# The largest integer that is exact in JavaScript: every client can send it as JSON.
MAX_SEED = (1 << 53) - 1


class FullError(Exception):
    """Too many texts are waiting."""


class StoppedError(Exception):
    """The batcher was closed."""


class Budget:
    """The bytes that requests in progress may hold, all together. Used by the event loop's thread only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold `size` bytes meanwhile. FullError if others hold too much."""
        if self.held and self.held + size > self.most:
            raise FullError
        self.held += size
        try:
            yield
        finally:
            self.held -= size


class StreamOptions(BaseModel):
    """Options of a stream. `include_obfuscation` is accepted only as false."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = False
    include_obfuscation: bool | None = False


def _field(name: str) -> Any:
    """Return the field of a sampling option. `Sampling` checks the bounds, with the same message everywhere."""
    option = sampling_options()[name]
    return Field(default=option.default, description=option.help)


class CompletionRequest(BaseModel):
    """POST /v1/completions. OpenAI's fields mean the same here, except that a token is a character.

    All of OpenAI's fields are accepted; null means the default. `user` is ignored; `best_of` and `suffix` are accepted
    only if they change nothing. The fields after `user` are this server's own. Unknown fields are refused.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    prompt: str | Texts | None = ""
    max_tokens: int | None = _field("max_new_chars")
    temperature: float | None = _field("temperature")
    top_p: float | None = _field("top_p")
    n: int | None = 1
    stop: str | Texts | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = _field("frequency_penalty")
    presence_penalty: float | None = _field("presence_penalty")
    logit_bias: dict[str, float] | None = None
    best_of: int | None = 1
    suffix: str | None = None
    user: str | None = None
    top_k: int | None = _field("top_k")
    min_p: float | None = _field("min_p")
    repetition_penalty: float | None = _field("repetition_penalty")
    repetition_window: int | None = _field("repetition_window")
    ngram_weight: float | None = _field("ngram_weight")
    allowed: str | None = _field("allowed")

    @model_validator(mode="before")
    @classmethod
    def _is_small(cls, value: Any) -> Any:
        """Check the numbers of fields and entries first: pydantic would report every one that is wrong."""
        if not isinstance(value, dict):
            return value
        for name, field in value.items():
            if name not in cls.__pydantic_fields__:
                raise PydanticCustomError("unknown_field", "{name}: unknown field", {"name": name[:SHOWN_NAME]})
            if isinstance(field, list | dict) and len(field) > MOST_ENTRIES:
                context = {"name": name, "found": f"{len(field):,}", "allowed": f"{MOST_ENTRIES:,}"}
                message = "{name}: found {found} entries, allowed are at most {allowed}"
                raise PydanticCustomError("too_many_entries", message, context)
        return value

    @field_validator("prompt", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(one, int | list) for one in value):
            raise PydanticCustomError("token_ids", "found token ids, allowed is text: a string or a list of strings")
        return value

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _has_numbers(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for char, bias in value.items():
                if isinstance(bias, bool) or not isinstance(bias, int | float):
                    raise PydanticCustomError(
                        "no_number", "found no number for {char}", {"char": repr(char[:SHOWN_NAME])}
                    )
        return value

    @field_validator("prompt", "stop", "allowed")
    @classmethod
    def _is_unicode(cls, value: str | list[str] | None) -> str | list[str] | None:
        try:
            "".join(value or ()).encode()
        except UnicodeEncodeError:
            raise PydanticCustomError(
                "surrogate", "contains half of a surrogate pair, allowed is Unicode text"
            ) from None
        return value

    @property
    def prompts(self) -> list[str]:
        """The prompts, one or many; null is the empty prompt."""
        return self.prompt if isinstance(self.prompt, list) else [self.prompt or ""]

    @property
    def samples(self) -> int:
        """The number of completions for each prompt."""
        return _or(self.n, 1)

    @property
    def response_bytes(self) -> int:
        """The estimated size of the response: texts times characters times what is sent for each."""
        length: int = _or(self.max_tokens, sampling_options()["max_new_chars"].default)
        written = len(self.prompts) * length
        echoed = sum(map(len, self.prompts)) if self.echo else 0
        score = 0 if self.logprobs is None else SCORE_BYTES + ALTERNATIVE_BYTES * self.logprobs
        return self.samples * (written + echoed) * (TEXT_BYTES + score)

    def sampling(self) -> Sampling:
        """Return the request's sampling; without a seed, one is drawn. UserError names an option out of range."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name in sampling_options()}
        given |= {
            "max_new_chars": self.max_tokens,
            "logit_bias": tuple((self.logit_bias or {}).items()),
            "seed": secrets.randbelow(1 << 32) if self.seed is None else self.seed,
            "stop": (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        }
        return Sampling(**{name: value for name, value in given.items() if value is not None})

    def check(self, limits: Limits, model: str) -> None:
        """Check that this server can answer the request; UserError names the field that it cannot."""
        check_model(self.model or "", model)
        if not self.prompts:
            raise UserError("prompt: found an empty list, allowed is a string or at least one")
        for prompt in self.prompts:
            if len(prompt) > limits.prompt_chars:
                raise UserError(
                    f"prompt: found {len(prompt):,} characters, allowed are at most {limits.prompt_chars:,}"
                )
        if self.max_tokens is not None and not 0 <= self.max_tokens <= limits.max_tokens:
            raise UserError(f"max_tokens: found {self.max_tokens}, allowed is 0 to {limits.max_tokens}")
        if len(self.prompts) > limits.texts:
            raise UserError(f"prompt: found {len(self.prompts)} prompts, allowed are at most {limits.texts}")
        if self.samples < 1 or self.samples * len(self.prompts) > limits.texts:
            raise UserError(f"n: found {self.samples}, allowed is 1 to {limits.texts // len(self.prompts)}")
        self._check_size(limits)
        self._check_unsupported()
        if self.stop is not None and len(self.stop) > MAX_STOPS and not isinstance(self.stop, str):
            raise UserError(f"stop: found {len(self.stop)} strings, allowed are at most {MAX_STOPS}")

    def _check_size(self, limits: Limits) -> None:
        if self.response_bytes > limits.response_bytes:
            name = "max_tokens" if self.logprobs is None else "logprobs"
            texts = self.samples * len(self.prompts)
            raise UserError(
                f"{name}: found {getattr(self, name)}, which makes a response of about "
                f"{self.response_bytes / 1e6:,.0f} MB with {texts} texts of this length; allowed are "
                f"{limits.response_bytes / 1e6:,.0f} MB: request fewer or shorter texts, or fewer logprobs"
            )

    def _check_unsupported(self) -> None:
        """Check that fields which are not implemented have no effect; else UserError."""
        if _or(self.best_of, 1) not in (1, self.samples):
            raise UserError(f"best_of: found {self.best_of}, allowed is 1; best_of is not supported, use n")
        if self.suffix:
            raise UserError("suffix: not supported, allowed is null; the model writes from left to right only")
        if self.stream_options is not None and not self.stream:
            raise UserError("stream_options: found without stream, allowed only with stream: true")
        if self.stream_options is not None and self.stream_options.include_obfuscation:
            raise UserError("stream_options: include_obfuscation is not supported, allowed is false")


def _or(value: T | None, default: T) -> T:
    """Return `value`, or `default` for null."""
    return default if value is None else value


# Clients may use this name for any model, so that they need no change when another one is served.
ANY_MODEL = "charlm"


class UnknownModelError(UserError):
    """The request names a model that this server does not have."""


def check_model(requested: str, served: str) -> None:
    """Check that a request is for the model `served`: by its name, by "charlm", or by none at all."""
    if requested not in ("", served, ANY_MODEL):
        names = " or ".join(repr(name) for name in dict.fromkeys((served, ANY_MODEL)))
        raise UnknownModelError(f"model: found {requested[:SHOWN_NAME]!r}, allowed is {names}")


def usage_of(prompt_chars: int, written: int) -> dict[str, int]:
    """Return OpenAI's `usage`, in characters."""
    return {"prompt_tokens": prompt_chars, "completion_tokens": written, "total_tokens": prompt_chars + written}


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


# Status, message and code of errors that are not the client's fault: it may try again.
BUSY: dict[type[Exception], tuple[int, str, str]] = {
    FullError: (429, "too many texts are waiting; try again soon", "queue_full"),
    StoppedError: (503, "the server was stopped", "stopped"),
    TimeoutError: (503, "the request took too long", "timeout"),
}

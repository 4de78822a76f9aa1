"""The response to a completions request: one object, or a stream of server-sent events."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from pipeline.core.errors import UserError
from pipeline.generation.sampling import Sampling
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Character, Chunk
from pipeline.serving.batching import Opening, Part, StoppedError, Writing
from pipeline.serving.completions import CompletionRequest, logprobs_of, usage_of
from pipeline.serving.errors import described
from pipeline.serving.middleware import Figures
from pipeline.serving.model_source import Served


class CompletionResponse:
    """The response to one request. `seconds` is the time it may take; `figures` count what it does.

    UserError if the model cannot write what `sampling` allows.
    """

    def __init__(
        self, asked: CompletionRequest, served: Served, sampling: Sampling, *, seconds: float, figures: Figures
    ) -> None:
        served.writer.check(sampling)
        self.asked = asked
        self.writer: Writer = served.writer
        self.figures = figures
        self.started = time.perf_counter()
        self.seconds = seconds
        self.head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.card["name"],
            "system_fingerprint": f"charlm-{served.card['version'] or 'folder'}",
            "seed": sampling.seed,
        }
        read = [self.writer.encode_prompt(prompt) for prompt in asked.prompts]
        self.openings = [Opening(one.ids) for one in read]
        self.warnings = list(dict.fromkeys(warning for one in read for warning in one.warnings))
        self.begun = False
        self.offsets = [0] * (len(asked.prompts) * asked.samples)
        self.written = 0
        self.echoes: dict[str, list[Character | None]] = {}

    def read_prompts(self) -> None:
        """Score the prompts that the response repeats, if it has log-probabilities."""
        for prompt in self.asked.prompts:
            if self.asked.logprobs is not None and prompt not in self.echoes:
                self.echoes[prompt] = _scored(self.writer, prompt, self.asked.logprobs)

    async def whole(self, writing: Writing) -> dict[str, Any]:
        """Return the response as one object."""
        async with asyncio.timeout(self.seconds):
            choices = {part.number: self._choice(part) async for part in writing.parts()}
        self._count_first()
        self._count_end()
        body = self.head | {"choices": [choices[index] for index in sorted(choices)], "usage": self._usage()}
        return body | ({"warnings": self.warnings} if self.warnings else {})

    async def events(self, writing: Writing) -> AsyncIterator[bytes]:
        """Yield server-sent events, the last one [DONE]; an error in mid-stream is an event too."""
        self.figures.streams.inc()
        try:
            async with asyncio.timeout(self.seconds):
                async for part in writing.parts():
                    if part.piece.text and not self.begun:
                        self.begun = True
                        self._count_first()
                    yield _event(self.head | {"choices": [self._choice(part)]})
                if self.asked.stream_options is not None and self.asked.stream_options.include_usage:
                    yield _event(self.head | {"choices": [], "usage": self._usage()})
                self._count_end()
                yield b"data: [DONE]\n\n"
        except (UserError, StoppedError, TimeoutError) as error:
            yield _event(described(error)[1])
        finally:
            writing.close()
            self.figures.streams.dec()

    def _choice(self, part: Part) -> dict[str, Any]:
        text = part.piece.text
        prompt = self.asked.prompts[part.number // self.asked.samples]
        first = self.offsets[part.number] == 0
        echo = prompt if self.asked.echo and first else ""
        logprobs = None
        if self.asked.logprobs is not None:
            characters: list[Character | None] = [*self.writer.characters(part.piece, self.asked.logprobs)]
            known = self.echoes[prompt] if echo else []
            logprobs = logprobs_of([*known, *characters], echo + text, self.offsets[part.number])
        self.offsets[part.number] += len(echo + text)
        self.written += len(text)
        self.figures.characters.inc(len(text))
        return {
            "index": part.number,
            "text": echo + text,
            "logprobs": logprobs,
            "finish_reason": part.finish_reason,
        }

    def _usage(self) -> dict[str, int]:
        return usage_of(sum(map(len, self.asked.prompts)), self.written)

    def _count_first(self) -> None:
        self.figures.first.observe(time.perf_counter() - self.started)

    def _count_end(self) -> None:
        self.figures.seconds.observe(time.perf_counter() - self.started)


def _scored(writer: Writer, prompt: str, alternatives: int) -> list[Character | None]:
    """Return each character of `prompt` with its log-probability; None for those that the model does not know."""
    scored = writer.score(prompt, predictions=alternatives > 0)
    known = iter(writer.characters(Chunk(scored.text, scored.log_probs, scored.predictions), alternatives))
    return [next(known) if char in writer.known else None for char in prompt]


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

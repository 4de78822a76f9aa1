"""Continuous batching: all texts in flight are generated in one batch, which a text may join or leave at every step.

One thread advances all texts by some characters at a time. A text does not depend on the rest of the batch. This module
knows nothing of HTTP: that thread passes the chunks of a text to the callback that was submitted with it.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.generation.engine import State
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Chunk, FinishReason, TextInProgress
from pipeline.params.sampling import Sampling

# Multiply-adds in a step, which limit the characters that it generates for each text: some milliseconds, so that a new
# text joins soon, yet few steps make a text.
PRODUCTS_PER_STEP = 200_000_000
MOST_PER_STEP = 32


class FullError(Exception):
    """Too many texts are waiting."""


class StoppedError(Exception):
    """The batcher was closed."""


@dataclass(eq=False)
class PromptState:
    """A prompt's ids, int64, and the network's state after them, once it is computed.

    All samples of one prompt share it, so that the prompt is read only once.
    """

    ids: npt.NDArray[np.int64]
    state: State | None = None


@dataclass(eq=False)
class Ticket:
    """A submitted text. `deliver(chunk, finish_reason)` gets each chunk, or an exception that ends the text."""

    writer: Writer
    prompt: PromptState
    sampling: Sampling
    predictions: bool
    deliver: Callable[[Chunk | Exception, FinishReason | None], None]
    text: TextInProgress | None = None
    cancelled: bool = field(default=False)

    def cancel(self) -> None:
        """Remove the text at the next step; nothing more of it is delivered."""
        self.cancelled = True


class Batcher:
    """Generates submitted texts, at most `in_flight` at once; up to `queue` more wait."""

    def __init__(self, *, in_flight: int, queue: int) -> None:
        self.in_flight = in_flight
        self.queue = queue
        self._waiting: deque[Ticket] = deque()
        self._ready: deque[Ticket] = deque()
        self._active: list[Ticket] = []
        self._reading = 0
        self._changed = threading.Condition()
        self._ending = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prompt-reader")
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """The number of texts being generated, including those whose prompts are being read."""
        return len(self._active) + len(self._ready) + self._reading

    @property
    def waiting(self) -> int:
        """The number of texts that wait for a place in the batch."""
        return len(self._waiting)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Accept all of `tickets`. FullError if there is no place for all of them; StoppedError after `close`."""
        with self._changed:
            if self._ending:
                raise StoppedError
            # Texts of clients that have disconnected take no place.
            self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
            if self.active + len(self._waiting) + len(tickets) > self.in_flight + self.queue:
                raise FullError
            self._waiting.extend(tickets)
            self._admit()

    def close(self) -> None:
        """Stop the thread; texts in flight end with StoppedError."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()
        self._reader.shutdown()

    def _admit(self) -> None:
        """Start as many waiting texts as there are places: another thread first reads their prompts."""
        while self._waiting and self.active < self.in_flight:
            ticket = self._waiting.popleft()
            if not ticket.cancelled:
                self._reading += 1
                self._reader.submit(self._read, ticket)

    def _read(self, ticket: Ticket) -> None:
        try:
            if not ticket.cancelled:
                prompt = ticket.prompt
                ticket.text = ticket.writer.start_text(prompt.ids, ticket.sampling, state=prompt.state)
                prompt.state = ticket.text.row.state  # advancing a row replaces its state: this one never changes
                if ticket.text.finish_reason is not None:  # no characters were requested
                    ticket.deliver(Chunk.empty(), ticket.text.finish_reason)
        except Exception as error:  # noqa: BLE001  any error becomes that request's response
            ticket.cancel()
            ticket.deliver(error, None)
        with self._changed:
            self._reading -= 1
            if _is_over(ticket):
                self._admit()
            else:
                self._ready.append(ticket)
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._active or self._ending)
                if self._ending:
                    break
                self._active += self._ready
                self._ready.clear()
            self._step()
            with self._changed:
                self._active = [ticket for ticket in self._active if not _is_over(ticket)]
                self._admit()
        for ticket in [*self._active, *self._ready, *self._waiting]:
            ticket.deliver(StoppedError(), None)

    def _step(self) -> None:
        """Generate some characters of every text, in one batch for each model and need for predictions."""
        staying = sorted(
            (ticket for ticket in self._active if not _is_over(ticket)),
            key=lambda one: (id(one.writer), one.predictions),
        )
        for (_, predictions), group in groupby(staying, key=lambda one: (id(one.writer), one.predictions)):
            tickets = list(group)
            writer = tickets[0].writer
            texts = [ticket.text for ticket in tickets if ticket.text is not None]
            try:
                chunks = writer.write(texts, _steps(writer, texts), predictions=predictions)
            except Exception as error:  # noqa: BLE001  these texts fail, the server continues
                for ticket in tickets:
                    ticket.cancel()
                    ticket.deliver(error, None)
                continue
            for ticket, text, chunk in zip(tickets, texts, chunks, strict=True):
                if not ticket.cancelled:
                    ticket.deliver(chunk, text.finish_reason)


def _is_over(ticket: Ticket) -> bool:
    return ticket.cancelled or ticket.text is None or ticket.text.finish_reason is not None


def _steps(writer: Writer, texts: Sequence[TextInProgress]) -> int:
    return max(1, min(MOST_PER_STEP, PRODUCTS_PER_STEP // (writer.engine.products * len(texts))))


class Update(NamedTuple):
    """The next chunk of text `number` of a request; `finish_reason` is None unless it is the last one."""

    number: int
    chunk: Chunk
    finish_reason: FinishReason | None


class Writing:
    """The texts of one request: submitted by the constructor (FullError if there is no place), cancelled by `close`."""

    def __init__(
        self,
        batcher: Batcher,
        writer: Writer,
        texts: list[tuple[PromptState, Sampling]],
        *,
        predictions: bool,
        whole: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._updates: asyncio.Queue[Update | Exception] = asyncio.Queue()
        self._whole = whole
        self._left = len(texts)
        self._tickets = [
            Ticket(writer, prompt, sampling, predictions, self._make_deliver(number))
            for number, (prompt, sampling) in enumerate(texts)
        ]
        batcher.submit(self._tickets)

    async def updates(self) -> AsyncIterator[Update]:
        """Yield updates as the texts are generated; with `whole`, one update for each text."""
        while self._left:
            update = await self._updates.get()
            if isinstance(update, Exception):
                raise update
            self._left -= update.finish_reason is not None
            yield update

    def close(self) -> None:
        """Cancel the texts that are still being generated."""
        for ticket in self._tickets:
            ticket.cancel()

    def _make_deliver(self, number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  a Ticket's `deliver`
        chunks: list[Chunk] = []

        def deliver(chunk: Chunk | Exception, finish_reason: FinishReason | None) -> None:
            if isinstance(chunk, Exception):
                self._put(chunk)
                return
            if not self._whole:
                self._put(Update(number, chunk, finish_reason))
                return
            chunks.append(chunk)
            if finish_reason is not None:
                self._put(Update(number, Chunk.concatenate(chunks), finish_reason))

        return deliver

    def _put(self, update: Update | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._updates.put_nowait, update)
        except RuntimeError:
            self.close()  # the event loop has ended

"""Continuous batching: all texts in flight are generated in one batch, which a text may join or leave at every step.

One thread advances all texts by some characters at a time. A text does not depend on the rest of the batch. This module
knows nothing of HTTP: that thread passes the chunks of a text to the callback that was submitted with it.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from pipeline.generation.text import Writer
from pipeline.generation.text_types import Chunk, FinishReason, TextInProgress
from pipeline.params.sampling import Sampling
from pipeline.serving.pieces import Piece, PromptState, join, piece_of

# Multiply-adds in a step, which limit the characters that it generates for each text: some milliseconds, so that a new
# text joins soon, yet few steps make a text.
PRODUCTS_PER_STEP = 200_000_000
MOST_PER_STEP = 32


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


@dataclass(eq=False)
class Ticket:
    """A submitted text. `deliver(chunk, finish_reason)` gets each chunk, or an exception that ends the text."""

    prompt: PromptState
    sampling: Sampling
    deliver: Callable[[Chunk | Exception, FinishReason | None], None]
    text: TextInProgress | None = None
    cancelled: bool = field(default=False)

    @property
    def writer(self) -> Writer:
        """The model that continues the prompt."""
        return self.prompt.writer

    @property
    def predictions(self) -> bool:
        """Whether the likeliest characters were requested."""
        return bool(self.prompt.alternatives)

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

    def _admit(self) -> None:
        """Start as many waiting texts as there are places: another thread first reads their prompts."""
        while self._waiting and self.active < self.in_flight:
            ticket = self._waiting.popleft()
            if not ticket.cancelled:
                self._reading += 1
                self._reader.submit(self._read, ticket)

    def _read(self, ticket: Ticket) -> None:
        """Read the next slice of a prompt; the next one is read after those of the other prompts."""
        try:
            if not ticket.cancelled and not self._ending:
                if not ticket.prompt.advance():
                    self._reader.submit(self._read, ticket)
                    return
                self._start(ticket)
        except Exception as error:  # noqa: BLE001  any error becomes that request's response
            ticket.cancel()
            ticket.deliver(StoppedError() if self._ending else error, None)
        with self._changed:
            self._reading -= 1
            if _is_over(ticket) and not self._ending:
                self._admit()
            else:
                self._ready.append(ticket)
                self._changed.notify()

    def _start(self, ticket: Ticket) -> None:
        """Start the text after a prompt that was read."""
        if ticket.sampling.max_new_chars:
            prompt = ticket.prompt
            ticket.text = ticket.writer.start_text(prompt.ids, ticket.sampling, state=prompt.state)
        else:
            ticket.deliver(Chunk.empty(), "length")

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
        self._reader.shutdown()  # what it reads is ready then
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
    """The next piece of text `number` of a request; `finish_reason` is None unless it is the last one."""

    number: int
    piece: Piece
    finish_reason: FinishReason | None


# Pieces of a text that wait for a slow client are joined in groups, since many small ones take much memory.
JOINED = 64


class Writing:
    """The texts of one request: submitted by the constructor (FullError if there is no place), cancelled by `close`."""

    def __init__(self, batcher: Batcher, texts: Sequence[tuple[PromptState, Sampling]], *, whole: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._whole = whole
        self._left = len(texts)
        self._lock = threading.Lock()
        # What was delivered and not yet taken, for each text: groups of pieces, then the last few pieces.
        self._groups: list[list[Piece]] = [[] for _ in texts]
        self._last: list[list[Piece]] = [[] for _ in texts]
        self._ended: dict[int, FinishReason] = {}
        self._error: Exception | None = None
        self._tickets = [
            Ticket(prompt, sampling, self._make_deliver(number, prompt.alternatives))
            for number, (prompt, sampling) in enumerate(texts)
        ]
        batcher.submit(self._tickets)

    async def updates(self) -> AsyncIterator[Update]:
        """Yield updates as the texts are generated; with `whole`, one update for each text."""
        while self._left:
            await self._arrived.wait()
            self._arrived.clear()
            for number in range(len(self._tickets)):
                with self._lock:
                    if self._error is not None:
                        raise self._error
                    update = self._take(number)
                if update is not None:
                    self._left -= update.finish_reason is not None
                    yield update

    def close(self) -> None:
        """Cancel the texts that are still being generated."""
        for ticket in self._tickets:
            ticket.cancel()

    def _take(self, number: int) -> Update | None:
        finish_reason = self._ended.get(number)
        pieces = [*self._groups[number], *self._last[number]]
        if not pieces or (self._whole and finish_reason is None):
            return None
        self._groups[number], self._last[number] = [], []
        return Update(number, join(pieces), finish_reason)

    def _make_deliver(
        self, number: int, alternatives: int | None
    ) -> Callable[[Chunk | Exception, FinishReason | None], None]:
        def deliver(chunk: Chunk | Exception, finish_reason: FinishReason | None) -> None:
            piece = None if isinstance(chunk, Exception) else piece_of(chunk, alternatives)
            with self._lock:
                if isinstance(chunk, Exception):
                    self._error = chunk
                if piece is not None:
                    self._last[number].append(piece)
                if finish_reason is not None:
                    self._ended[number] = finish_reason
                if len(self._last[number]) >= JOINED:
                    self._groups[number].append(join(self._last[number]))
                    self._last[number] = []
            if not self._whole or finish_reason is not None or piece is None:
                self._wake()

        return deliver

    def _wake(self) -> None:
        if self._arrived.is_set():
            return
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:
            self.close()  # the event loop has ended

"""Continuous batching: texts in flight are written side by side, and one may join or leave at every step.

One thread moves them all on, some characters at a time; what a text becomes does not depend on its company. Knows
nothing of HTTP: whoever submits a text is called with the pieces, from that thread.
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
from pipeline.generation.sampling import Sampling
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Chunk, FinishReason, TextInProgress

# A step writes as many characters of each text as this many multiply-adds make: some milliseconds, so that a text that
# joins does not wait long, and few steps make a text.
PRODUCTS_PER_STEP = 200_000_000
MOST_PER_STEP = 32


class FullError(Exception):
    """Too many texts wait already."""


class StoppedError(Exception):
    """The batcher was closed."""


@dataclass(eq=False)
class Opening:
    """What a text goes on from: a prompt's ids int64, and the state after them once someone has read them.

    The samples of one prompt share it, so that the prompt is read once.
    """

    ids: npt.NDArray[np.int64]
    state: State | None = None


@dataclass(eq=False)
class Ticket:
    """A submitted text. `deliver(piece, finish_reason)` is called for each piece; an exception ends it too."""

    writer: Writer
    opening: Opening
    sampling: Sampling
    predictions: bool
    deliver: Callable[[Chunk | Exception, FinishReason | None], None]
    draft: TextInProgress | None = None
    cancelled: bool = field(default=False)

    def cancel(self) -> None:
        """Let the text leave at the next step; nothing more is delivered of it."""
        self.cancelled = True


class Batcher:
    """Writes submitted texts, at most `in_flight` side by side; `queue` more may wait."""

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
        """How many texts are being written or their prompts read."""
        return len(self._active) + len(self._ready) + self._reading

    @property
    def waiting(self) -> int:
        """How many texts wait for a place."""
        return len(self._waiting)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Take all of `tickets` or, if so many cannot wait, none: FullError; StoppedError after `close`."""
        with self._changed:
            if self._ending:
                raise StoppedError
            # Clients that have left do not keep others out.
            self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
            if self.active + len(self._waiting) + len(tickets) > self.in_flight + self.queue:
                raise FullError
            self._waiting.extend(tickets)
            self._admit()

    def close(self) -> None:
        """Stop; texts in flight end with an error."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()
        self._reader.shutdown()

    def _admit(self) -> None:
        """Let waiting texts in where there is a place: their prompts are read first, beside the writing."""
        while self._waiting and self.active < self.in_flight:
            ticket = self._waiting.popleft()
            if not ticket.cancelled:
                self._reading += 1
                self._reader.submit(self._read, ticket)

    def _read(self, ticket: Ticket) -> None:
        try:
            if not ticket.cancelled:
                opening = ticket.opening
                ticket.draft = ticket.writer.start_text(opening.ids, ticket.sampling, state=opening.state)
                opening.state = ticket.draft.row.state  # a row gets a new state when it is moved: this one stays
                if ticket.draft.finish_reason is not None:  # no characters are asked for
                    ticket.deliver(Chunk.empty(), ticket.draft.finish_reason)
        except Exception as error:  # noqa: BLE001  whatever it is, it is that request's answer
            ticket.cancel()
            ticket.deliver(error, None)
        with self._changed:
            self._reading -= 1
            if _has_left(ticket):
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
                self._active = [ticket for ticket in self._active if not _has_left(ticket)]
                self._admit()
        for ticket in [*self._active, *self._ready, *self._waiting]:
            ticket.deliver(StoppedError(), None)

    def _step(self) -> None:
        """Write some characters of every text; those that need the same things are written in one batch."""
        staying = sorted(
            (ticket for ticket in self._active if not _has_left(ticket)),
            key=lambda one: (id(one.writer), one.predictions),
        )
        for (_, predictions), group in groupby(staying, key=lambda one: (id(one.writer), one.predictions)):
            tickets = list(group)
            writer = tickets[0].writer
            drafts = [ticket.draft for ticket in tickets if ticket.draft is not None]
            try:
                pieces = writer.write(drafts, _steps(writer, drafts), predictions=predictions)
            except Exception as error:  # noqa: BLE001  the texts fail, the server stays
                for ticket in tickets:
                    ticket.cancel()
                    ticket.deliver(error, None)
                continue
            for ticket, draft, piece in zip(tickets, drafts, pieces, strict=True):
                if not ticket.cancelled:
                    ticket.deliver(piece, draft.finish_reason)


def _has_left(ticket: Ticket) -> bool:
    return ticket.cancelled or ticket.draft is None or ticket.draft.finish_reason is not None


def _steps(writer: Writer, drafts: Sequence[TextInProgress]) -> int:
    return max(1, min(MOST_PER_STEP, PRODUCTS_PER_STEP // (writer.engine.products * len(drafts))))


class Part(NamedTuple):
    """What was written of text `number` of a request; with `finish_reason` it is the last of it."""

    number: int
    piece: Chunk
    finish_reason: FinishReason | None


class Writing:
    """The texts of one request: submitted when made (FullError if there is no room), cancelled when closed."""

    def __init__(
        self, batcher: Batcher, writer: Writer, texts: list[tuple[Opening, Sampling]], *, predictions: bool, whole: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | Exception] = asyncio.Queue()
        self._whole = whole
        self._left = len(texts)
        self._tickets = [
            Ticket(writer, opening, sampling, predictions, self._deliver_of(number))
            for number, (opening, sampling) in enumerate(texts)
        ]
        batcher.submit(self._tickets)

    async def parts(self) -> AsyncIterator[Part]:
        """Yield what is written, as it comes; with `whole`, each text in one part."""
        while self._left:
            part = await self._parts.get()
            if isinstance(part, Exception):
                raise part
            self._left -= part.finish_reason is not None
            yield part

    def close(self) -> None:
        """Let what is still being written leave."""
        for ticket in self._tickets:
            ticket.cancel()

    def _deliver_of(self, number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  a Ticket's `deliver`
        kept: list[Chunk] = []

        def deliver(piece: Chunk | Exception, finish_reason: FinishReason | None) -> None:
            if isinstance(piece, Exception):
                self._put(piece)
                return
            if not self._whole:
                self._put(Part(number, piece, finish_reason))
                return
            kept.append(piece)
            if finish_reason is not None:
                self._put(Part(number, Chunk.concatenate(kept), finish_reason))

        return deliver

    def _put(self, part: Part | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)
        except RuntimeError:
            self.close()  # the event loop has ended

"""Continuous batching: all texts in flight are generated in batches, which a text may join or leave at every step.

Each lane, a thread, has a batch and advances its texts by some characters at a time, without Python's lock. A text does
not depend on the rest of the batch. What a step has generated is handed over to the event loop at once, a whole text
when it ends. This module knows nothing of HTTP.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from pipeline.core.reproducible import available_cores
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Chunk, FinishReason, TextInProgress
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import FullError, StoppedError
from pipeline.serving.pieces import PRODUCTS_AT_ONCE, Piece, PromptState, join, piece_of

# Most characters of a step: of whole texts, and if one is streamed, so that it does not arrive in jerks.
MOST_PER_STEP, MOST_STREAMED = 128, 32
# Fewer texts are not worth another lane, and more lanes would mostly wait for Python's lock.
TEXTS_PER_LANE, MOST_LANES = 8, 8


def lanes_and_threads(workers: int = 1) -> tuple[int, int]:
    """Return how many lanes each of `workers` processes has, and how many threads of the engine each lane."""
    cores = max(1, available_cores() // workers)
    lanes = min(cores, MOST_LANES)
    return lanes, -(-cores // lanes)


@dataclass(eq=False)
class Ticket:
    """A submitted text, number `number` of the request `writing`, which gets what is generated."""

    prompt: PromptState
    sampling: Sampling
    writing: "Writing"
    number: int
    text: TextInProgress | None = None
    cancelled: bool = False

    @property
    def kind(self) -> tuple[int, bool]:
        """Texts of the same kind are generated in one batch: by one model, with or without predictions."""
        return id(self.prompt.writer), bool(self.prompt.alternatives)

    @property
    def is_over(self) -> bool:
        """Whether nothing more of it is generated."""
        return self.cancelled or (self.text is not None and self.text.finish_reason is not None)

    def start(self) -> None:
        """Start the text after its prompt, which was read."""
        prompt = self.prompt
        self.text = prompt.writer.start_text(prompt.ids, self.sampling, state=prompt.state)
        if self.is_over:  # nothing is to be written
            self.writing.deliver(self, Chunk.empty())

    def fail(self, error: Exception) -> None:
        """End the text, and its request, with `error`."""
        self.cancelled = True
        self.writing.fail(error)


class Batcher:
    """Generates submitted texts in `lanes` threads, at most `in_flight` at once; up to `queue` more wait."""

    def __init__(self, *, in_flight: int, queue: int, lanes: int = 1) -> None:
        self.in_flight = in_flight
        self.queue = queue
        self.active = 0  # texts being generated, including those whose prompts are being read
        self._waiting: deque[Ticket] = deque()
        self._ready: deque[Ticket] = deque()  # what a lane takes next
        self._changed = threading.Condition()
        self._ending = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prompt-reader")
        self._lanes = [
            threading.Thread(target=self._run, name=f"lane-{number}", daemon=True) for number in range(lanes)
        ]
        for lane in self._lanes:
            lane.start()

    @property
    def waiting(self) -> int:
        """The number of texts that wait for a place."""
        return len(self._waiting)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Accept all of `tickets`. FullError if there is no place for all of them; StoppedError after `close`."""
        with self._changed:
            if self._ending:
                raise StoppedError
            if self._waiting:  # texts of clients that have disconnected take no place
                self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
            if self.active + len(self._waiting) + len(tickets) > self.in_flight + self.queue:
                raise FullError
            self._waiting.extend(tickets)
            self._admit()

    def close(self) -> None:
        """Stop the threads; texts in flight end with StoppedError."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for lane in self._lanes:
            lane.join()
        self._reader.shutdown()  # what it reads is ready then
        for ticket in [*self._ready, *self._waiting]:
            ticket.fail(StoppedError())
        wake([*self._ready, *self._waiting])

    def _admit(self) -> None:
        """Start as many waiting texts as there are places. Another thread reads long prompts, in slices."""
        while self._waiting and self.active < self.in_flight:
            ticket = self._waiting.popleft()
            if ticket.cancelled:
                continue
            self.active += 1
            if ticket.prompt.is_short:
                self._ready.append(ticket)
            else:
                self._reader.submit(self._read, ticket)
        if self._ready:
            self._changed.notify()

    def _read(self, ticket: Ticket) -> None:
        """Read the next slice of a prompt; the next one is read after those of the other prompts."""
        try:
            if not ticket.cancelled and not self._ending and not ticket.prompt.advance():
                self._reader.submit(self._read, ticket)
                return
        except Exception as error:  # noqa: BLE001  any error becomes that request's response
            ticket.fail(StoppedError() if self._ending else error)
            wake([ticket])
        with self._changed:
            self._ready.append(ticket)
            self._changed.notify()

    def _run(self) -> None:
        """Generate the texts of one lane."""
        texts: list[Ticket] = []
        while True:
            with self._changed:
                left = [ticket for ticket in texts if not ticket.is_over]
                self.active -= len(texts) - len(left)
                self._admit()
                self._changed.wait_for(lambda: left or self._ready or self._ending)  # noqa: B023  called at once
                if self._ending:
                    texts = left
                    break
                texts = [*left, *self._share(len(left))]
            for ticket in texts[len(left) :]:
                _start(ticket)
            for _, group in groupby(sorted(texts, key=lambda one: one.kind), key=lambda one: one.kind):
                _step([ticket for ticket in group if not ticket.is_over])
            wake(texts)
        for ticket in texts:
            ticket.fail(StoppedError())
        wake(texts)

    def _share(self, own: int) -> list[Ticket]:
        """Return what a lane with `own` texts takes: no more than its share of all, so that every lane has some.

        Nor more than it may read at once: the next characters of its own texts wait meanwhile.
        """
        most = max(TEXTS_PER_LANE, -(-self.active // len(self._lanes))) - own
        taken, prompts = list[Ticket](), set[PromptState]()
        while self._ready and len(taken) < most and sum(one.products for one in prompts) <= PRODUCTS_AT_ONCE:
            taken.append(self._ready.popleft())
            prompts.add(taken[-1].prompt)  # the samples of a prompt read it once
        if self._ready:
            self._changed.notify()
        return taken


def _start(ticket: Ticket) -> None:
    try:
        if not ticket.is_over:
            ticket.prompt.finish()
            ticket.start()
    except Exception as error:  # noqa: BLE001  any error becomes that request's response
        ticket.fail(error)


def _step(tickets: Sequence[Ticket]) -> None:
    """Generate some characters of every text, all of one kind."""
    texts = [ticket.text for ticket in tickets if ticket.text is not None]
    if not texts:
        return
    writer, predictions = tickets[0].prompt.writer, bool(tickets[0].prompt.alternatives)
    most = MOST_PER_STEP if all(ticket.writing.whole for ticket in tickets) else MOST_STREAMED
    try:
        chunks = writer.write(texts, _steps(writer, texts, most), predictions=predictions)
        for ticket, chunk in zip(tickets, chunks, strict=True):
            if not ticket.cancelled:
                ticket.writing.deliver(ticket, chunk)
    except Exception as error:  # noqa: BLE001  these texts fail, the server continues
        for ticket in tickets:
            ticket.fail(error)


def _steps(writer: Writer, texts: Sequence[TextInProgress], most: int) -> int:
    """Return the number of characters that a step writes: what ends the shortest text in equal steps, if not few.

    A step takes some milliseconds, so that a new text joins soon, yet few steps make a text.
    """
    most = max(1, min(most, PRODUCTS_AT_ONCE // (writer.engine.products * len(texts))))
    shortest = min(text.left for text in texts)
    return max(-(-most // 4), -(-shortest // -(-shortest // most)))


def wake(tickets: Sequence[Ticket]) -> None:
    """Hand over what was generated of `tickets`, and not yet: one callback for each event loop."""
    news: dict[asyncio.AbstractEventLoop, list[Writing]] = {}
    for ticket in tickets:
        if ticket.writing.has_news:
            ticket.writing.has_news = False
            news.setdefault(ticket.writing.loop, []).append(ticket.writing)
    for loop, writings in news.items():
        try:
            loop.call_soon_threadsafe(_arrive, writings)
        except RuntimeError:  # the event loop has ended
            for writing in writings:
                writing.close()


def _arrive(writings: "Sequence[Writing]") -> None:
    for writing in writings:
        writing.arrived.set()


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
        self.loop = asyncio.get_running_loop()
        self.arrived = asyncio.Event()
        self.whole = whole
        self.has_news = False
        self._left = len(texts)
        self._lock = threading.Lock()
        # What was delivered and not yet taken, for each text: groups of pieces, then the last few pieces.
        self._groups: list[list[Piece]] = [[] for _ in texts]
        self._last: list[list[Piece]] = [[] for _ in texts]
        self._ended: dict[int, FinishReason] = {}
        self._error: Exception | None = None
        self._tickets = [Ticket(prompt, sampling, self, number) for number, (prompt, sampling) in enumerate(texts)]
        batcher.submit(self._tickets)

    async def updates(self) -> AsyncIterator[Update]:
        """Yield updates as the texts are generated; with `whole`, one update for each text."""
        while self._left:
            await self.arrived.wait()
            self.arrived.clear()
            for number in range(len(self._tickets)):
                with self._lock:
                    if self._error is not None:
                        raise self._error
                    update = self._take(number)
                if update is not None:
                    self._left -= update.finish_reason is not None
                    yield update

    def close(self) -> None:
        """Cancel the texts that are still being generated: the next step removes them, nothing more is delivered."""
        for ticket in self._tickets:
            ticket.cancelled = True

    def deliver(self, ticket: Ticket, chunk: Chunk) -> None:
        """Take the next chunk of a text; called by a lane."""
        number = ticket.number
        piece = piece_of(chunk, ticket.prompt.alternatives)
        finish_reason = None if ticket.text is None else ticket.text.finish_reason
        with self._lock:
            self._last[number].append(piece)
            if finish_reason is not None:
                self._ended[number] = finish_reason
            if len(self._last[number]) >= JOINED:
                self._groups[number].append(join(self._last[number]))
                self._last[number] = []
            self.has_news |= not self.whole or finish_reason is not None

    def fail(self, error: Exception) -> None:
        """End the request with `error`; called by a lane."""
        with self._lock:
            self._error, self.has_news = error, True

    def _take(self, number: int) -> Update | None:
        finish_reason = self._ended.get(number)
        pieces = [*self._groups[number], *self._last[number]]
        if not pieces or (self.whole and finish_reason is None):
            return None
        self._groups[number], self._last[number] = [], []
        return Update(number, join(pieces), finish_reason)

"""A request's texts between the batcher's thread and the event loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from pipeline.generation.pieces import FinishReason, Piece
from pipeline.generation.sampling import Sampling
from pipeline.generation.text import Writer
from pipeline.serving.batching import Batcher, Opening, Ticket


class Part(NamedTuple):
    """What was written of text `number` of a request; with `finish_reason` it is the last of it."""

    number: int
    piece: Piece
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
        kept: list[Piece] = []

        def deliver(piece: Piece | Exception, finish_reason: FinishReason | None) -> None:
            if isinstance(piece, Exception):
                self._put(piece)
                return
            if not self._whole:
                self._put(Part(number, piece, finish_reason))
                return
            kept.append(piece)
            if finish_reason is not None:
                self._put(Part(number, Piece.of(kept), finish_reason))

        return deliver

    def _put(self, part: Part | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)
        except RuntimeError:
            self.close()  # the event loop has ended

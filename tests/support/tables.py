"""Tables of documents as the stages read them."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.documents import PIECE_BYTES, Row, batches_of, cut_pieces, schema_of

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 40


def tables(*texts: str, most: int = PIECE_BYTES, at_once: int = 1000, **metadata: list):
    """Return a function that yields `texts` as record batches: rows of at most `most` bytes, `at_once` in a batch."""
    rows = [
        Row(
            f"document {number}",
            piece,
            part,
            last=part == len(pieces) - 1,
            metadata={name: values[number] for name, values in metadata.items()},
        )
        for number, text in enumerate(texts)
        for pieces in [list(cut_pieces([text.encode()], most)) or [b""]]
        for part, piece in enumerate(pieces)
    ]
    schema = schema_of((name, pa.array(values).type) for name, values in metadata.items())
    batches = [
        pa.RecordBatch.from_arrays(
            [*batch.columns, pc.utf8_length(batch.column("text")).cast(pa.int64())],
            schema=schema.append(pa.field("chars", pa.int64())),
        )
        for at in range(0, len(rows), at_once)
        for batch in batches_of(rows[at : at + at_once], schema)
    ]
    return lambda _=None: iter(batches)

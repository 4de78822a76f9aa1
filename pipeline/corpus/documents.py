"""Documents: a text with what is known of it, kept as Parquet; read and written without having all in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.files import whole_file

# Rows are written and read in groups of about this many characters, so that memory does not grow with the corpus.
GROUP_CHARACTERS = 8 << 20


@dataclass(frozen=True)
class Document:
    """One text; `document` is its name, unique in the corpus; what is not known of it is None."""

    document: str
    text: str
    year: int | None = None
    date: str | None = None
    speaker: str | None = None
    party: str | None = None


SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("text", pa.large_string()),
        ("year", pa.int32()),
        ("date", pa.string()),
        ("speaker", pa.string()),
        ("party", pa.string()),
    ]
)


def write_documents(path: Path, documents: Iterable[Document]) -> tuple[int, int]:
    """Write `documents` as one Parquet table (whole or not at all); returns (documents, characters).

    UserError if there is no document or no character at all.
    """
    count = characters = 0
    with whole_file(path) as part:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
            rows: list[dict[str, Any]] = []
            held = 0
            for document in documents:
                rows.append(asdict(document))
                held += len(document.text)
                count += 1
                characters += len(document.text)
                if held >= GROUP_CHARACTERS:
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                    rows, held = [], 0
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        if not characters:
            raise UserError("data.source: holds no text; allowed is at least one character")
    return count, characters


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet table, one row group in memory at a time."""
    with pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            yield from table.read_row_group(group, columns=columns).to_pylist()

"""Arrays on disk as .npy files: appended to without knowing their length, read memory-mapped."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError

# Room for the header of any array of ours; the shape is filled in at the end.
HEADER_BYTES = 128


class ArrayWriter:
    """Writes an array of `dtype` row by row: rows are numbers or, with `width`, of so many numbers."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, *, width: int | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.width = width
        self.rows = 0
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows at the end."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the header."""
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        # The format: 8 bytes of magic and version, the length of the rest, a dict as text, spaces, a newline.
        text = header.getvalue()[10:].rstrip(b" \n").ljust(HEADER_BYTES - 11) + b"\n"
        self._file.seek(0)
        self._file.write(header.getvalue()[:8] + len(text).to_bytes(2, "little") + text)
        self._file.close()


@contextmanager
def array_writer(path: Path, dtype: npt.DTypeLike, *, width: int | None = None) -> Iterator[ArrayWriter]:
    """Give a writer of the array in `path`, closed at the end."""
    writer = ArrayWriter(path, dtype, width=width)
    try:
        yield writer
    finally:
        writer.close()


def load_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in `path`, memory-mapped; UserError if the file is missing or holds no array."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not an array: {error}; `dvc repro` or `dvc checkout` brings it back") from None
    return array

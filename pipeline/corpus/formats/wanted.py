"""Which columns of a table are wanted, and what is said when one is not there."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.params.data import DataParams

# A row is read whole: one that is longer is a file without line ends, or a quote that is never closed.
LONGEST_ROW = 256 << 20


@dataclass(frozen=True)
class Wanted:
    """The columns that params name: the text's, the documents' names' (or None), and metadata."""

    text: str
    id: str | None
    metadata: tuple[str, ...]

    @classmethod
    def by(cls, params: DataParams) -> "Wanted":
        """Return what `data` names."""
        return cls(params.text_column, params.id_column, params.metadata)

    @property
    def names(self) -> list[str]:
        """All of them, each once, the text first."""
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.metadata]))

    def key(self, name: str) -> str:
        """Return the params key that names the column `name`."""
        if name == self.text:
            return "data.text_column"
        return "data.id_column" if name == self.id else "data.metadata"

    def check(
        self, there: Iterable[str], file: str, *, seen: Collection[str] = (), separated_by: str | None = None
    ) -> None:
        """Refuse the table `file` with the columns `there` if one is missing or occurs twice; `seen` are not checked.

        `separated_by` is what separates the columns of a CSV file, in words.
        """
        columns = list(there)
        for name in self.names:
            if name in seen:
                continue
            if columns.count(name) > 1:
                raise UserError(f"{self.key(name)}: {file} has {columns.count(name)} columns {name!r}; allowed is one")
            if name not in columns:
                shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")  # noqa: PLR2004  one line
                found = f" (separated by {separated_by})" if separated_by else ""
                raise UserError(
                    f"{self.key(name)}: {file} has no column {name!r}; allowed are {shown or 'none'}{found}"
                )


def row_too_long(file: str) -> UserError:
    """Return the error to raise for a row of more than LONGEST_ROW bytes."""
    return UserError(
        f"data.source: {file}: a row of more than {LONGEST_ROW >> 20} MiB; is a line end or a closing quote missing?"
    )

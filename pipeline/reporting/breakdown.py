"""What explains the perplexity, as tables: buckets, characters, and what is taken for what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting.formatting import NOTHING, decimal, is_number, percent, signed, visible, whole
from pipeline.reporting.project import Project, Row

MOST_MISTAKES = 15
BITS_PER_NAT = 1.4426950408889634
# From this difference on, in bits, a character is called better or worse.
NOTEWORTHY = 0.05


@dataclass(frozen=True)
class Cell:
    """A value as it is shown; `bar` is its length in percent, `kind` "better" or "worse" than the first project's."""

    shown: str
    bar: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table: what it is about, and its cells."""

    name: str
    cells: tuple[Cell, ...]


def buckets(projects: Sequence[Project]) -> list[Line]:
    """Return a line per bucket length with each project's perplexity and characters."""
    found = [_buckets(project) for project in projects]
    lengths = sorted({length for one in found for length in one}, key=lambda length: (len(length), length))
    return [
        Line(
            length,
            tuple(
                cell
                for one in found
                for cell in (
                    Cell(decimal(one.get(length, {}).get("perplexity"))),
                    Cell(whole(one.get(length, {}).get("num_chars"))),
                )
            ),
        )
        for length in lengths
    ]


def characters(project: Project) -> list[Line]:
    """Return a line per character, the costliest first: count, mean bits, share of the loss."""
    rows = character_rows(project)
    most_bits = max((row["bits"] for row in rows), default=1.0)
    most_share = max((row["share_of_loss"] for row in rows), default=1.0)
    return [
        Line(
            visible(row["character"]),
            (
                Cell(whole(row["count"])),
                Cell(decimal(row["bits"], 2), _length(row["bits"], most_bits)),
                Cell(percent(row["share_of_loss"]), _length(row["share_of_loss"], most_share)),
            ),
        )
        for row in rows
    ]


def character_differences(projects: Sequence[Project], *, ranked: bool) -> list[Line]:
    """Return a line per character of the first project with its mean bits there, and how the others differ."""
    first, *others = [{row["character"]: row for row in character_rows(project)} for project in projects]
    lines = []
    for name, row in first.items():
        cells = [Cell(decimal(row["bits"], 2))]
        for other in others:
            if name not in other:
                cells.append(Cell(NOTHING))
                continue
            difference = other[name]["bits"] - row["bits"]
            kind = "" if not ranked or abs(difference) < NOTEWORTHY else "better" if difference < 0 else "worse"
            cells.append(Cell(signed(difference), kind=kind))
        lines.append(Line(visible(name), (Cell(whole(row["count"])), *cells)))
    return lines


def mistakes(projects: Sequence[Project]) -> list[Line]:
    """Return a line per frequent mistake ("character → taken for") with its count and share in each project."""
    found = [
        {row["mistake"]: row for row in project.read_csv("plots/mistakes.csv", ("count", "share"), ("mistake",))}
        for project in projects
    ]
    frequent = next((one for one in found if one), {})
    most = max((row["count"] for row in frequent.values()), default=1.0)
    return [
        Line(
            " → ".join(map(visible, name.rsplit(" → ", 1))),
            tuple(
                cell
                for one in found
                for cell in (
                    Cell(whole(one[name]["count"]), _length(one[name]["count"], most) if len(found) == 1 else None)
                    if name in one
                    else Cell(NOTHING),
                    Cell(percent(one[name]["share"], 0) if name in one else NOTHING),
                )
            ),
        )
        for name in list(frequent)[:MOST_MISTAKES]
    ]


def _buckets(project: Project) -> dict[str, dict[str, Any]]:
    found = project.metrics("evaluate").get("buckets")
    return (
        {str(length): one for length, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
    )


def character_rows(project: Project) -> list[Row]:
    """Return the rows of the table of characters, with `bits` beside the nats."""
    rows = project.read_csv("plots/characters.csv", ("count", "mean_nats", "share_of_loss"), ("character",))
    return [row | {"bits": row["mean_nats"] * BITS_PER_NAT} for row in rows if is_number(row["mean_nats"])]


def _length(value: float, most: float) -> float | None:
    return round(100 * value / most, 1) if is_number(value) and most > 0 else None

"""Makes the report's tables: the figures of each model, and perplexity by bucket, by character and by mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.params.text import source_name
from pipeline.reporting.project import (
    NOTHING,
    Project,
    Row,
    decimal,
    is_number,
    param,
    percent,
    seconds,
    signed,
    visible,
    whole,
    why_not_comparable,
)

Better = Literal["lower", "higher"]
MAX_MISTAKES = 15
BITS_PER_NAT = 1.4426950408889634
# A character counts as better or worse from this difference in bits on.
NOTEWORTHY = 0.05


@dataclass(frozen=True)
class Figure:
    """A figure: its name, each project's value as text, which values are the best, and a note about its meaning."""

    name: str
    values: tuple[str, ...]
    best: tuple[bool, ...]
    note: str = ""


def headline(projects: Sequence[Project]) -> list[Figure]:
    """Return the most important figures; the best are marked if the projects can be compared."""
    ranked = len(projects) > 1 and not why_not_comparable(projects)

    def figure(name: str, stage: str, key: str, show: Callable[[Any], str], better: Better, note: str = "") -> Figure:
        values = [project.metrics(stage).get(key) for project in projects]
        best = _best(values, better) if ranked else (False,) * len(values)
        return Figure(name, tuple(map(show, values)), best, note)

    rows = [
        figure("Perplexity", "evaluate", "perplexity", decimal, "lower", _protocol(projects)),
        _plain("N-gram baseline", _baselines(projects, "baseline_perplexity"), _baseline_name(projects)),
        figure("Bits per character", "evaluate", "bits_per_char", decimal, "lower", "log₂ of the perplexity"),
        figure("Test perplexity", "evaluate", "test_perplexity", decimal, "lower", "text that nothing was chosen by"),
        figure("Accuracy", "evaluate", "accuracy", percent, "higher", "the likeliest character was right"),
        figure("With the state carried", "evaluate", "perplexity_stateful", decimal, "lower", "perplexity, whole text"),
        figure("Learning as it reads", "evaluate", "perplexity_adaptive", decimal, "lower", "perplexity, whole text"),
        _plain("Baseline, state carried", _baselines(projects, "baseline_perplexity_stateful"), "n-gram, whole text"),
        figure("Training", "train", "seconds", seconds, "lower", _hardware(projects)),
        _plain("Parameters", [whole(one.metrics("train").get("parameters")) for one in projects], _network(projects)),
        _plain("Corpus", [whole(one.metrics("split").get("characters")) for one in projects], _source(projects)),
    ]
    if len(projects) > 1:
        rows += [
            _plain("Network", [network(project) for project in projects]),
            _plain("Trained on", [hardware(project) for project in projects]),
            _plain("Text", [source(project) for project in projects]),
        ]
    return [row for row in rows if set(row.values) != {NOTHING}]


def corpus(projects: Sequence[Project]) -> list[Figure]:
    """Return the figures of the corpus, from the source to the splits."""
    entries = (
        ("Documents", "clean", "documents", whole, ""),
        ("Empty documents", "clean", "empty_documents", whole, "left out"),
        ("Duplicate documents", "clean", "duplicate_documents", whole, "left out"),
        ("Characters found", "ingest", "characters", whole, ""),
        ("Characters replaced", "clean", "replaced", whole, ""),
        ("Characters dropped", "clean", "dropped", whole, ""),
        ("Rare characters", "clean", "rare_characters", whole, "became the unknown symbol"),
        ("Characters after cleaning", "clean", "characters", whole, ""),
        ("Dictionary", "split", "dictionary_size", whole, "ids, padding included"),
        ("Training text", "split", "train_chars", whole, "characters"),
        ("Eval text", "split", "eval_chars", whole, "characters"),
        ("Test text", "split", "test_chars", whole, "characters"),
        ("Training documents", "split", "train_documents", whole, "samples of their own"),
        ("Padding", "split", "padding", percent, "of all places in the buckets"),
        ("Training text, SHA-256", "split", "train_sha256", _short, ""),
        ("Eval text, SHA-256", "split", "eval_sha256", _short, ""),
    )
    rows = [
        _plain(name, [show(project.metrics(stage).get(key)) for project in projects], note)
        for name, stage, key, show, note in entries
    ]
    rows = [row for row in rows if set(row.values) != {NOTHING}]
    return [_plain("Source", [source(project) for project in projects]), *rows] if rows else []


def network(project: Project) -> str:
    """Return a description of the network."""
    values = [project.params.get(f"model.{key}") for key in ("cell", "num_layers", "num_hidden")]
    if None in values:
        return NOTHING
    cell, layers, hidden = values
    return f"{str(cell).upper()}, {layers} {'layer' if layers == 1 else 'layers'} of {hidden}"


def hardware(project: Project) -> str:
    """Return the precision, device, threads and workers of the training."""
    train = project.metrics("train")
    if "device" not in train:
        return NOTHING
    threads = train.get("threads")
    shown = f", {threads} {'thread' if threads == 1 else 'threads'}" if is_number(threads) else ""
    if is_number(workers := train.get("workers")):
        shown += f" in each of {workers} workers"
    return f"{train.get('precision')} on {train['device']}{shown}"


def source(project: Project) -> str:
    """Return the file name of the source."""
    value = project.params.get("data.source")
    return source_name(param(value)) if value else NOTHING


def _plain(name: str, values: Sequence[str], note: str = "") -> Figure:
    return Figure(name, tuple(values), (False,) * len(values), note)


def _best(values: Sequence[Any], better: Better) -> tuple[bool, ...]:
    """Return which values are the best; none of them if one is missing or all are equal."""
    if not all(map(is_number, values)) or len(set(values)) == 1:
        return (False,) * len(values)
    best = min(values) if better == "lower" else max(values)
    return tuple(value == best for value in values)


def _short(digest: Any) -> str:
    return digest[:12] if isinstance(digest, str) else NOTHING


def _protocol(projects: Sequence[Project]) -> str:
    window = projects[0].params.get("evaluate.window")
    return f"eval text, windows of {window}" if len(projects) == 1 and window else ""


def _baselines(projects: Sequence[Project], key: str) -> list[str]:
    return [decimal(project.metrics("evaluate").get(key)) for project in projects]


def _baseline_name(projects: Sequence[Project]) -> str:
    names = {project.metrics("evaluate").get("baseline") for project in projects}
    return f"perplexity of {names.pop()}" if len(names) == 1 and None not in names else "perplexity"


def _network(projects: Sequence[Project]) -> str:
    return network(projects[0]).replace(NOTHING, "") if len(projects) == 1 else ""


def _hardware(projects: Sequence[Project]) -> str:
    return hardware(projects[0]).replace(NOTHING, "") if len(projects) == 1 else ""


def _source(projects: Sequence[Project]) -> str:
    return f"characters, {source(projects[0])}" if len(projects) == 1 else "characters"


@dataclass(frozen=True)
class Cell:
    """A value as text, with a bar of length `bar` in percent; `kind` is "better" or "worse" than the first project."""

    shown: str
    bar: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table: its heading and its cells."""

    name: str
    cells: tuple[Cell, ...]


def buckets(projects: Sequence[Project]) -> list[Line]:
    """Return a line for each bucket length, with each project's perplexity and number of characters."""
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
    """Return a line for each character with its count, mean bits and share of the loss, the largest share first."""
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
    """Return a line for each character of the first project: its mean bits there, and the others' differences."""
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
    """Return a line for each frequent mistake ("character → predicted") with its count and share in each project."""
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
        for name in list(frequent)[:MAX_MISTAKES]
    ]


def _buckets(project: Project) -> dict[str, dict[str, Any]]:
    found = project.metrics("evaluate").get("buckets")
    return (
        {str(length): one for length, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
    )


def character_rows(project: Project) -> list[Row]:
    """Return the rows of the table of characters, with the mean loss also in `bits`."""
    rows = project.read_csv("plots/characters.csv", ("count", "mean_nats", "share_of_loss"), ("character",))
    return [row | {"bits": row["mean_nats"] * BITS_PER_NAT} for row in rows if is_number(row["mean_nats"])]


def _length(value: float, most: float) -> float | None:
    return round(100 * value / most, 1) if is_number(value) and most > 0 else None

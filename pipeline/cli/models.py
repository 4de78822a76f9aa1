"""`charlm models`, `promote`, `rollback`, `trace`, `verify` and `clean`: the registry from the command line.

Also `--model` of other commands: its default, and which model is used.
"""

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.measure import Measurement
from rich.table import Table

from pipeline.core.errors import UserError
from pipeline.evaluation.measurement import MEASUREMENT, difference, record_in
from pipeline.params.generation import RegisterParams, registered_name
from pipeline.params.reader import read_group

if TYPE_CHECKING:
    from pipeline.serving.model_source import Located

# The model of the last run in this project.
DEFAULT_MODEL = "models/charlm"
ModelAddress = Annotated[str, typer.Option(help="A folder, models:/NAME@ALIAS or models:/NAME/VERSION.")]


def find_model(address: str) -> "Located":
    """Return the model at `address`, and print its address on standard error; UserError if there is none."""
    from pipeline.serving.model_source import locate  # numba: not for --help

    found = locate(address)
    print_model(address, version=found.version, perplexity=found.perplexity)
    return found


def print_model(address: str, *, version: str | None, perplexity: float | None) -> None:
    """Print on standard error which model is used."""
    by_alias = f", version {version}" if version and "@" in address else ""
    known = f", perplexity {perplexity:.3f}" if perplexity else ""
    print(f"model: {address}{by_alias}{known}", file=sys.stderr, flush=True)


def need_own_model(root: Path) -> None:
    """Raise UserError unless the project has a model of its own; metrics and plots alone are in Git without it."""
    from pipeline.model.saved import NO_MODEL_YET, OWN_MODEL, WEIGHTS  # numpy: not for --help

    if not (root / OWN_MODEL / WEIGHTS).exists():
        raise UserError(f"{OWN_MODEL}: {NO_MODEL_YET}")


# Wider than any table here.
UNLIMITED = 10_000


def print_whole(table: Table) -> None:
    """Print `table` without cutting cells, also in a pipe or a narrow window, which may scroll."""
    console = Console(highlight=False)
    # By default a measurement is limited to the window's width.
    measured = Measurement.get(console, console.options.update(max_width=UNLIMITED), table)
    console.width = max(1, measured.maximum)
    console.print(table, crop=False)


ModelName = Annotated[
    str, typer.Option("--model", help="The registered model; by default that of the text in params.yaml.")
]
Reason = Annotated[str, typer.Option("--reason", help="Saved as a tag of the version.")]
DIGITS = 8


def model_name(given: str) -> str:
    """Return the registered model's name: the one given, else that of the text in params.yaml."""
    return given or registered_name()


def models(model: ModelName = "") -> None:
    """List the registered versions: aliases, perplexity, text, date."""
    from pipeline.tracking.registry import versions  # loads MLflow
    from pipeline.tracking.store import open_store

    name = model_name(model)
    with open_store() as (client, _):
        found = versions(client, name)
        others = [] if found else [f"--model {one.name}" for one in client.search_registered_models()]
    if not found:
        there_are = f"; the registry has {', '.join(others)}" if others else ""
        raise UserError(f"{name}: no version is registered yet; run `make repro` or `dvc repro` first{there_are}")
    print_whole(_table(name, found))


def promote(
    version: Annotated[str, typer.Argument(help="The version's number, or an alias.")],
    model: ModelName = "",
    reason: Reason = "",
    *,
    force: Annotated[bool, typer.Option("--force", help="Even if it is worse, or cannot be compared.")] = False,
) -> None:
    """Make a version the champion."""
    from pipeline.tracking.registry import Gate, find_version
    from pipeline.tracking.registry import promote as make_champion  # loads MLflow
    from pipeline.tracking.store import open_store

    name, params = model_name(model), read_group("register", RegisterParams)
    gate = Gate(params.max_perplexity, params.beat_baseline)
    with open_store() as (client, _):
        number = str(find_version(client, name, version).version)
        print(make_champion(client, name, number, reason=reason, force=force, gate=gate))


def rollback(model: ModelName = "", reason: Reason = "") -> None:
    """Make the previous champion the champion again."""
    from pipeline.tracking.registry import rollback as go_back  # loads MLflow
    from pipeline.tracking.store import open_store

    with open_store() as (client, _):
        print(go_back(client, model_name(model), reason=reason))


def _table(name: str, versions: list[Any]) -> Table:
    champions = [one for one in versions if "champion" in one.aliases]
    measured = record_in(champions[0].tags) if champions else None
    title = f"{name}: {len(versions)} version{'s' if len(versions) > 1 else ''}"
    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("version", "right"),
        ("alias", "left"),
        ("perplexity", "right"),
        ("text", "left"),
        ("eval text", "left"),
        ("made", "left"),
        ("experiment", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    others = False
    for one in versions:
        tags = one.tags
        other = bool(champions) and bool(difference(measured, record_in(tags))) and one is not champions[0]
        others |= other
        table.add_row(
            str(one.version),
            " ".join(one.aliases),
            f"{float(tags['perplexity']):.4f}{'*' if other else ' '}" if "perplexity" in tags else "- ",
            tags.get("data.source", ""),
            tags.get("eval_sha256", "")[:DIGITS],
            f"{datetime.fromtimestamp(one.creation_timestamp / 1000, tz=UTC):%Y-%m-%d %H:%M}",
            tags.get("dvc.experiment", ""),
            style="bold" if "champion" in one.aliases else "",
        )
    if others:
        table.caption = "* not measured as the champion was (text, window, …): not comparable with it"
        table.caption_justify = "left"
    return table


Version = Annotated[str, typer.Argument(help="The version's number, or an alias.")]
DIFFERENT, TERMINATED = 1, 143


def trace(
    version: Version = "champion",
    model: ModelName = "",
    *,
    patch: Annotated[bool, typer.Option("--patch", help="Print only the patch, for git apply.")] = False,
) -> None:
    """Show what a version was made from, and the commands that rebuild it."""
    from pipeline.lineage.trace import trace as look_up  # loads MLflow
    from pipeline.tracking.registry import START_SHA256_TAG, START_TAG

    found = look_up(model_name(model), version)
    if patch:
        sys.stdout.buffer.write(found.patch)
        return
    tags, run = found.version.tags, found.run
    aliases = f"  ({', '.join(found.version.aliases)})" if found.version.aliases else ""
    lines = found.patch.count(b"\n")
    held = "" if not found.experiment else ", held by DVC" if found.still_in_dvc() else ", no longer held by DVC"
    rows = [
        ("version", f"{found.name} {found.version.version}{aliases}"),
        ("perplexity", f"{float(tags['perplexity']):.4f} on eval text {tags['eval_sha256']}"),
        ("measurement", tags.get(MEASUREMENT, "there is no record of how it was measured")),
        ("weights", f"sha256 {tags['weights_sha256']}"),
        ("run", f"{run.info.run_id}  {run.info.run_name}"),
        ("commit", f"{found.commit}  {found.subject()}"),
        ("patch", f"{lines} lines on top of it ({found.command('trace')} --patch)" if lines else "none"),
        ("changed", run.data.tags.get("charlm.changed", "")),
        ("experiment", f"{found.experiment}{held}" if found.experiment else "none: a plain dvc repro"),
        ("text", f"{found.params['data']['source']}  train {tags.get('train_sha256', '')}"),
        *(
            [("start model", f"{tags[START_TAG]}  weights sha256 {tags[START_SHA256_TAG]}")]
            if START_TAG in tags
            else []
        ),
        *((("dvc.lock"), f"{path}  md5 {md5}") for path, md5 in found.hashes().items()),
        ("made with", f"Python {found.environment.get('python')}, {found.environment.get('processor')}"),
        *(("otherwise", one) for one in found.differences_here()),
        ("rebuild", f"{found.command('verify')}, or by hand:"),
        *(("", command) for command in found.commands()),
    ]
    # No table: a command or a hash must stay one line, to be copied.
    for name, value in rows:
        print(f"{name:12}  {value}")


def verify(version: Version = "champion", model: ModelName = "") -> None:
    """Rebuild a version in a temporary clone and compare its bytes; exit code 1 if they differ."""
    from pipeline.lineage.trace import changed_inputs, compare, rebuilt  # loads MLflow
    from pipeline.lineage.trace import trace as look_up
    from pipeline.tracking.registry import from_registry

    found = look_up(model_name(model), version)
    what = f"{found.name} version {found.version.version}"
    registered, _ = from_registry(f"models:/{found.name}/{found.version.version}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # as Ctrl-C: the temporary clone is removed
    print(f"rebuilding {what} from {found.commit[:10]} and a patch of {len(found.patch):,} bytes", flush=True)
    with rebuilt(found) as clone:
        files, apart = compare(clone, registered), changed_inputs(clone, found)
    for one in files:
        print(f"{'same bytes' if one.same else 'DIFFERENT'}  {one.name}  {one.registered}")
        if not one.same:
            print(f"{'built now':>10}  {one.name}  {one.rebuilt}")
    if all(one.same for one in files):
        print(f"{what}: rebuilt to the same bytes")
        return
    for path in apart:
        print(f"already different before training: {path}")
    for line in found.differences_here():
        print(f"different environment: {line}")
    raise typer.Exit(DIFFERENT)


SHOWN = 5


def clean(
    days: Annotated[float, typer.Option(min=0, help="Keep runs, versions and checkpoints younger than this.")] = 30,
    model: ModelName = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it permanently.")] = False,
) -> None:
    """Show what takes space and is no longer needed; with --yes, delete it."""
    from pipeline.lineage.disk import find_waste, remove, shared_cache  # loads MLflow

    if folder := shared_cache():
        print(f"DVC's cache {folder} is outside of the project: left alone, since others may need what is in it")
    waste = find_waste(model_name(model), days=days)
    if not waste:
        print(f"nothing to delete: all of it is needed, or younger than {days:g} days")
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for one in waste:
        console.print(f"{len(one.names):5}  {one.kind}  {decimal(one.size)}")
        more = f" and {len(one.names) - SHOWN} more" if len(one.names) > SHOWN else ""
        console.print(f"       {', '.join(one.names[:SHOWN])}{more}", style="dim")
    total = decimal(sum(one.size for one in waste))
    if not yes:
        console.print(f"{total} in all; charlm clean --days {days:g} --yes deletes it for good")
        return
    remove(waste)
    console.print(f"deleted: {total}")

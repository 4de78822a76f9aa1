"""`charlm models`, `promote` and `rollback`: the registry from the command line."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.cli.tables import print_whole
from pipeline.errors import UserError
from pipeline.params.reader import read_group
from pipeline.params.register import RegisterParams, registered_name

ModelName = Annotated[
    str, typer.Option("--model", help="The registered model; by default that of the text in params.yaml.")
]
Reason = Annotated[str, typer.Option("--reason", help="Kept as a tag of the version.")]
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
    from pipeline.tracking.registry import find_version
    from pipeline.tracking.registry import promote as make_champion  # loads MLflow
    from pipeline.tracking.store import open_store

    name, limit = model_name(model), read_group("register", RegisterParams).max_perplexity
    with open_store() as (client, _):
        number = str(find_version(client, name, version).version)
        print(make_champion(client, name, number, reason=reason, force=force, max_perplexity=limit))


def rollback(model: ModelName = "", reason: Reason = "") -> None:
    """Make the version that was champion before the champion again."""
    from pipeline.tracking.registry import rollback as go_back  # loads MLflow
    from pipeline.tracking.store import open_store

    with open_store() as (client, _):
        print(go_back(client, model_name(model), reason=reason))


def _table(name: str, versions: list[Any]) -> Table:
    champions = [one for one in versions if "champion" in one.aliases]
    text = champions[0].tags.get("eval_sha256") if champions else None
    title = f"{name}: {len(versions)} version{'s' if len(versions) > 1 else ''}"
    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("version", "right"), ("alias", "left"), ("perplexity", "right"), ("text", "left"), ("eval text", "left"),
        ("made", "left"), ("experiment", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for one in versions:
        tags = one.tags
        other = text is not None and tags.get("eval_sha256") != text
        table.add_row(
            str(one.version),
            " ".join(one.aliases),
            f"{float(tags.get('perplexity', 'nan')):.4f}{'*' if other else ' '}",
            tags.get("data.source", ""),
            tags.get("eval_sha256", "")[:DIGITS],
            f"{datetime.fromtimestamp(one.creation_timestamp / 1000, tz=UTC):%Y-%m-%d %H:%M}",
            tags.get("dvc.experiment", ""),
            style="bold" if "champion" in one.aliases else "",
        )
    if any(text is not None and one.tags.get("eval_sha256") != text for one in versions):
        table.caption = "* measured on another eval text than the champion: not comparable with it"
        table.caption_justify = "left"
    return table

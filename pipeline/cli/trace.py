"""`charlm trace` and `charlm verify`: from a version back to what made it, and forward again to the same bytes."""

import signal
import sys
from typing import Annotated

import typer

from pipeline.cli.registry import ModelName, model_name

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
        ("weights", f"sha256 {tags['weights_sha256']}"),
        ("run", f"{run.info.run_id}  {run.info.run_name}"),
        ("commit", f"{found.commit}  {found.subject()}"),
        ("patch", f"{lines} lines on top of it ({found.command('trace')} --patch)" if lines else "none"),
        ("changed", run.data.tags.get("charlm.changed", "")),
        ("experiment", f"{found.experiment}{held}" if found.experiment else "none: a plain dvc repro"),
        ("text", f"{found.params['data']['source']}  train {tags.get('train_sha256', '')}"),
        *((("dvc.lock"), f"{path}  md5 {md5}") for path, md5 in found.hashes().items()),
        ("made with", f"Python {found.environment.get('python')}, {found.environment.get('processor')}"),
        *(("otherwise", difference) for difference in found.differences_here()),
        ("rebuild", f"{found.command('verify')}, or by hand:"),
        *(("", command) for command in found.commands()),
    ]
    # No table: a command or a hash must stay one line, to be copied.
    for name, value in rows:
        print(f"{name:12}  {value}")


def verify(version: Version = "champion", model: ModelName = "") -> None:
    """Rebuild a version in a temporary clone and compare its bytes; exit code 1 if they differ."""
    from pipeline.lineage.rebuild import compare, other_inputs, rebuilt  # loads MLflow
    from pipeline.lineage.trace import trace as look_up
    from pipeline.serving.source import from_registry

    found = look_up(model_name(model), version)
    what = f"{found.name} version {found.version.version}"
    registered, _ = from_registry(f"models:/{found.name}/{found.version.version}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # as Ctrl-C: what was begun is cleared away
    print(f"building {what} again from {found.commit[:10]} and a patch of {len(found.patch):,} bytes", flush=True)
    with rebuilt(found) as clone:
        files, apart = compare(clone, registered), other_inputs(clone, found)
    for one in files:
        print(f"{'same bytes' if one.same else 'DIFFERENT'}  {one.name}  {one.registered}")
        if not one.same:
            print(f"{'built now':>10}  {one.name}  {one.rebuilt}")
    if all(one.same for one in files):
        print(f"{what}: built again to the same bytes")
        return
    for path in apart:
        print(f"already another before training: {path}")
    for difference in found.differences_here():
        print(f"another environment: {difference}")
    raise typer.Exit(DIFFERENT)

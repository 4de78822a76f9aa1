"""`charlm new`: makes a model of your own text in one command."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import UserError
from pipeline.params.reader import PARAMS_FILE, read_yaml

if TYPE_CHECKING:
    from pipeline.params.groups import Values
    from pipeline.survey.survey import Advice, Survey

DVC_FILE = Path("dvc.yaml")
BACKUP = "params-before-new.yaml"
# Fewer characters cannot be split into a useful training and eval text.
FEWEST = 2000
INTERRUPTED = 130


def new(
    source: Annotated[str, typer.Argument(help="A file, a folder, a table (CSV, JSONL, Parquet) or an address.")],
    name: Annotated[str, typer.Option(help="The registered model's name.", show_default="charlm-SOURCE")] = "auto",
    set_params: Annotated[
        list[str] | None, typer.Option("-S", "--set-param", help="A value of your own: -S train.epochs=20.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be set and run; change nothing.")] = False,
) -> None:
    """Make a model of your own text: choose the params, train, and show the result."""
    from pipeline.params.groups import write_values  # ruamel: not for --help
    from pipeline.survey.plan import changed_values

    if not DVC_FILE.exists() or not PARAMS_FILE.exists():
        raise UserError(f"{DVC_FILE}: not here; run `charlm new` in the folder of a charlm project")
    before = read_yaml(PARAMS_FILE)
    found, after, advice = _planned(source, name, before, set_params or [])
    values = changed_values(before, after)
    _show(found, after, advice)
    if dry_run:
        print(f"\nnothing was changed (--dry-run); {len(values)} values of {PARAMS_FILE} would change")
        return
    undo = _prepare_undo()
    if values:
        write_values(PARAMS_FILE, values)
    print(
        f"\n{len(values)} values of {PARAMS_FILE} were changed; to undo this: {undo}\nrunning: dvc repro\n", flush=True
    )
    _run_pipeline(undo)


def _planned(
    source: str, name: str, before: dict[str, Any], options: Sequence[str]
) -> "tuple[Survey, Values, list[Advice]]":
    """Return what the text contains, params for it, and the reasons; leaves no files behind."""
    from pipeline.params.reader import parse_group
    from pipeline.params.text import CleanParams, DataParams
    from pipeline.sources.reading import open_documents  # numba and pyarrow: not for --help
    from pipeline.survey.plan import advise_writing, as_value, changes, fit, suggest_source
    from pipeline.survey.prompts import TextSample
    from pipeline.survey.suggestion import suggest
    from pipeline.survey.survey import survey
    from pipeline.text.shards import read_batches, shard_writer
    from pipeline.tracking.progress import throughput
    from pipeline.tracking.project import project_root, state_folder

    start = suggest_source(source, project_root())
    values, _ = changes(before, start, options)
    params = parse_group("data", values["data"], DataParams)
    state_folder().mkdir(exist_ok=True)
    scratch, sample = Path(tempfile.mkdtemp(prefix="new-", dir=state_folder())), TextSample()
    try:
        documents = scratch / "documents"
        documents.mkdir()
        with throughput("reading", None) as advance:
            opened = open_documents(params, root=project_root(), cache=state_folder() / "downloads", progress=advance)
            with shard_writer(documents, opened.schema) as writer:
                for batch in sample.collect(opened):
                    writer.write(batch)
            if writer.characters < FEWEST:
                found_chars = f"{writer.characters:,} characters"
                raise UserError(f"data.source: {source}: contains {found_chars}, allowed are at least {FEWEST:,}")
            found = survey(read_batches(documents), progress=advance)
            training = fit(found.characters)
            values, _ = changes(before, [*start, *training], options)
            given = {option.partition("=")[0] for option in options}
            suggestion = suggest(found, documents, scratch, values, given=given, progress=advance)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if suggestion.problem:
        raise UserError(f"data.source: {source}: {suggestion.problem}")
    advice = [*start, *suggestion.advice, *training]
    values, _ = changes(before, advice, options)
    clean = parse_group("clean", values["clean"], CleanParams)
    advice += advise_writing(found, sample.text(), clean, name=as_value(name))
    return found, *changes(before, advice, options)


def _show(found: "Survey", after: "Values", advice: "Sequence[Advice]") -> None:
    from pipeline.params.generation import RegisterParams
    from pipeline.params.reader import parse_group
    from pipeline.params.training import ModelParams
    from pipeline.survey.plan import hint

    documents = "1 document" if found.documents == 1 else f"{found.documents:,} documents"
    source = str(after["data"]["source"])
    registered = parse_group("register", after["register"], RegisterParams).name_for(source)
    print(f"{source}: {documents}, {found.characters:,} characters, {len(found.alphabet):,} of them distinct")
    print(f"registered model: {registered}\n")
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold", ratio=None)
    table.add_column(overflow="fold")
    console = Console(highlight=False)
    if console.is_terminal:
        for one in advice:
            table.add_row(Text(f"{one.key} = {one.value}:", style="cyan"), one.why)
        console.print(table)
    else:
        for one in advice:
            print(f"{one.key} = {one.value}: {one.why}")
    model = parse_group("model", after["model"], ModelParams)
    if line := hint(found.characters, model, vocab_size=len(found.alphabet) + 1):
        print(f"\n{line}")


def _prepare_undo() -> str:
    """Return the command that restores params.yaml as it is now; makes a copy if it has uncommitted edits."""
    from pipeline.tracking.project import git, state_folder

    is_committed = bool(git("ls-files", str(PARAMS_FILE)).strip()) and not git(
        "status", "--porcelain", str(PARAMS_FILE)
    )
    if is_committed:
        return f"git checkout {PARAMS_FILE}"
    copy = state_folder() / BACKUP
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(PARAMS_FILE, copy)
    return f"cp {copy.relative_to(Path.cwd().resolve())} {PARAMS_FILE}  (it had edits that are not in Git)"


def _run_pipeline(undo: str) -> None:
    """Run `dvc repro` and show its output. If it stops, UserError says what state params.yaml is in."""
    from pipeline.tracking.project import dvc_environment

    command = [sys.executable, "-m", "dvc", "repro"]
    state = f"{PARAMS_FILE} has the values above: continue with `dvc repro`, or undo: {undo}"
    process = subprocess.Popen(command, env=dvc_environment())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # DVC got the same signal and ends by itself
        print(f"interrupted; {state}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if code:
        raise UserError(f"dvc repro stopped, its message is above; {state}")

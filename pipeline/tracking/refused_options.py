"""Undoes the -S options of an experiment that `source` refused, so that a wrong `-S key=value` leaves no trace.

DVC writes the values of `dvc exp run -S` into params.yaml before the first stage runs, and leaves them there if a stage
fails. So `source` saves each params.yaml that it accepts in .charlm/. If it refuses one, it restores the saved text, or
that of the commit: all of it if only the -S values differ, else only those values, so that edits by hand stay.
Temporary copies (--temp, --queue) need nothing of this.
"""

import argparse
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params.reader import PARAMS_FILE
from pipeline.tracking.project import dvc_ancestor, experiment_name, file_at, project_root, state_folder

ACCEPTED = "params.accepted.yaml"


@contextmanager
def undo_options_if_refused() -> Iterator[None]:
    """Save params.yaml if the block succeeds; undo the -S options if it raises a UserError.

    The error then gets a note about what was done.
    """
    try:
        yield
    except UserError as error:
        done = undo_options()
        if done:
            error.add_note(done)
        raise
    if Path.cwd().resolve() == project_root():
        _save(state_folder() / ACCEPTED, PARAMS_FILE.read_bytes())


def undo_options() -> str | None:
    """Restore params.yaml to what it was before -S; returns what was done, None if there was nothing to do."""
    if experiment_name() is None or Path.cwd().resolve() != project_root():
        return None
    options = options_of(_command_line())
    if not options:
        return None
    now = PARAMS_FILE.read_bytes()
    known = [text for text in (_saved(), _committed()) if text is not None]
    before = next((text for text in known if _with_options(text, options) == now), None)
    if before is not None:
        _save(PARAMS_FILE, before)
        return f"params.yaml is as it was before {shlex.join(_words(options))}"
    # Edited by hand since: only the keys of -S change back.
    if not known:
        return None
    keys = [key_of(option) for option in options]
    _save(PARAMS_FILE, with_values_of(known[0], now, keys))
    be = "is" if len(keys) == 1 else "are"
    return f"params.yaml: {', '.join(keys)} {be} as last accepted; your other edits stay"


def options_of(command: Sequence[str]) -> list[str]:
    """Return the "key=value" options for params.yaml in a command line of `dvc exp run`, in their order."""
    if "exp" not in command and "experiments" not in command:
        return []
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-S", "--set-param", action="append", default=[])
    try:
        found: list[str] = parser.parse_known_args(list(command))[0].set_param
    except argparse.ArgumentError:
        return []
    options = []
    for option in found:
        # DVC allows FILE:key=value.
        file, colon, rest = option.partition("=")[0].rpartition(":")
        if not colon:
            options.append(option)
        elif Path(file) == PARAMS_FILE:
            options.append(rest + option[len(file) + 1 + len(rest) :])
    return options


def key_of(option: str) -> str:
    """Return the dotted key of an option: `+key=value` adds one and `~key` removes one."""
    return option.partition("=")[0].lstrip("+~")


def with_values_of(before: bytes, now: bytes, keys: Sequence[str]) -> bytes:
    """Return the YAML text `now` with the values that `keys` have in `before`; the rest and all comments stay."""
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    old, new = yaml.load(before.decode()), yaml.load(now.decode())
    for key in keys:
        *groups, last = key.split(".")
        source, target = _at(old, groups), _at(new, groups)
        if not isinstance(target, dict):
            continue
        if isinstance(source, dict) and last in source:
            target[last] = source[last]
        else:
            target.pop(last, None)
    text = StringIO()
    yaml.dump(new, text)
    return text.getvalue().encode()


def _at(content: Any, groups: Sequence[str]) -> Any:
    for group in groups:
        content = content.get(group) if isinstance(content, dict) else None
    return content


def _with_options(text: bytes, options: Sequence[str]) -> bytes | None:
    """Return `text` with the -S `options` applied by DVC, None if DVC refuses them."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides  # loads Hydra: only after a refusal

    with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        path = Path(temporary) / PARAMS_FILE.name
        path.write_bytes(text)
        try:
            apply_overrides(str(path), list(options))
        except (DvcException, ValueError):
            return None
        return path.read_bytes()


def _command_line() -> list[str]:
    try:
        return dvc_ancestor().cmdline()
    except psutil.Error:
        return []


def _saved() -> bytes | None:
    try:
        return (state_folder() / ACCEPTED).read_bytes()
    except OSError:
        return None


def _committed() -> bytes | None:
    text = file_at("HEAD", PARAMS_FILE.name)
    return None if text is None else text.encode()


def _words(options: Sequence[str]) -> list[str]:
    return [word for option in options for word in ("-S", option)]


def _save(path: Path, content: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(content)

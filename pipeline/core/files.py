"""The paths of the files that stages pass to each other, and how files are written: completely or not at all."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.core.errors import DENIED, FULL, QUOTA, DiskError, UserError, disk_problem, one_line

# source, ingest, clean
SOURCE = Path("data/source.json")
# the model to start from: its files, and whether there is one
START = Path("data/start")
DOCUMENTS = Path("data/documents")
CLEAN = Path("data/clean")
CLEAN_CHANGES = Path("reports/clean.csv")

# split: a folder for each of train, eval and test, and the dictionary
SPLITS = Path("data/split")
DICTIONARY = SPLITS / "dictionary.json"

# validate
# a sample of the training text's substrings, which train puts next to the weights
SUBSTRINGS = Path("data/substrings.npy")
VALIDATED = Path("data/validated.json")
VALIDATION = Path("reports/validation.json")
ALPHABET = Path("reports/alphabet.csv")
DATA_DOCS = Path("reports/data_docs")

# train
MODEL = Path("models/charlm")
CURVE = Path("plots/train.csv")
TUTORIAL_CURVE = Path("plots/tutorial.csv")

# evaluate, generate, register
SUMMARY = Path("metrics/summary.json")
PLOTS = Path("plots")
SAMPLES = Path("samples")
FOLDERS = tuple(map(Path, (".", "data", "metrics", "models", "plots", "reports")))
REGISTRATION = Path("models/registration.json")


def metrics_of(stage: str) -> Path:
    """Return the file with the figures of a stage: of each but source, register and summary."""
    return Path(f"metrics/{stage}.json")


CHUNK = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to. It replaces `path` when the block succeeds, and is removed otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _naming(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent, path.name)
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill. It replaces `path` when the block succeeds, and is removed otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _naming(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent, path.name)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            if path.exists():
                path.replace(old)
            temporary.replace(path)
            _remove(old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Raise errors of the disk as a DiskError that names `path`, how much of it was written, and what is free."""
    try:
        yield
    except DiskError as error:  # about a file in a folder
        raise DiskError(str(error).replace(str(temporary), str(path))) from None
    except Exception as error:
        problem = disk_problem(error)
        # Access may also be denied to what the block reads.
        is_own = str(getattr(error, "filename", "")).startswith(str(path.parent))
        if problem is None or (problem.endswith(DENIED) and not is_own):
            raise
        cause = problem.rpartition(": ")[2]
        raise DiskError(f"{path}: {cause}{_sizes(temporary) if cause in {FULL, QUOTA} else ''}") from error


def _sizes(temporary: Path) -> str:
    try:
        parts = [temporary] if temporary.is_file() else [one for one in temporary.rglob("*") if one.is_file()]
        written = sum(one.stat().st_size for one in parts)
        free = shutil.disk_usage(temporary.parent).free
    except OSError:
        return ""
    return f" ({written:,} bytes of it were written, {free:,} bytes are free)"


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files of processes killed while they wrote `name` in `folder`, or anything there."""
    for temporary in folder.glob(f".{glob.escape(name) or '*'}.*.*"):
        found = re.fullmatch(rf"\.{re.escape(name) or '.+'}\.(\d+)\.(part|old)(\..*)?", temporary.name)
        if found and not _is_running(int(found[1])):
            _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's process, or a number that is too large for this system
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as UTF-8 JSON with the keys in the given order and one trailing newline."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raises OSError or ValueError."""
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if r"\ud" in text.lower():  # half a surrogate pair is in no text, and cannot be written to any file
        json.dumps(content, ensure_ascii=False).encode()
    return content


T = TypeVar("T")


def read_checked(path: Path, kind: type[T]) -> T:
    """Return the content of a JSON file, which is checked to be a `kind`: a TypedDict, which may have more keys.

    UserError, which names the file and what is wrong in it, if it is missing, not JSON, or not of that kind.
    """
    try:
        TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
        return cast("T", read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        found = one_line(f"{where}{first['msg']}", most=200)
    except (OSError, ValueError) as error:
        found = one_line(error, most=200)
    raise UserError(f"{path}: missing or damaged: {found}; `dvc repro` or `dvc checkout` restores it")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

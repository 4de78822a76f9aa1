"""The paths of the files that stages pass to each other, and how files are written: completely or not at all."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import platformdirs
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
HASH_BYTES = hashlib.sha256().digest_size


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


def user_cache() -> Path:
    """Return the folder for what is slow to make and alike in all of a user's projects; CHARLM_CACHE_DIR moves it."""
    return Path(os.environ.get("CHARLM_CACHE_DIR") or platformdirs.user_cache_dir("charlm", appauthor=False))


def only_ours(folder: Path) -> bool:
    """Return whether `folder`, which is created, can be written to, but by nobody else: what is in it is executed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = os.name == "posix" and (folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022)
    except OSError:
        return False
    return not others and os.access(folder, os.W_OK)


def read_cached(path: Path) -> bytes | None:
    """Return what `write_cached` wrote; None if the file is missing or damaged, which its SHA-256 shows."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    rest = content[HASH_BYTES:]
    return rest if hashlib.sha256(rest).digest() == content[:HASH_BYTES] else None


def write_cached(path: Path, content: bytes) -> None:
    """Write `content` after its SHA-256. If that fails, as on a full disk, it is made again the next time."""
    with suppress(OSError), whole_file(path) as part:
        part.write_bytes(hashlib.sha256(content).digest() + content)


def cached(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of the cache's file `path`; if it is missing or damaged, `make` it."""
    usable = only_ours(path.parent)
    content = read_cached(path) if usable else None
    if content is None:
        content = make()
        if usable:
            write_cached(path, content)
    return content

"""Reads a model that someone else exported: checks every file of it before anything is used or registered.

Only safetensors, JSON and `.npy` files are read, each below a limit; nothing from the folder is ever run. Sizes and
hashes must be those of manifest.json, shapes and types those of config.json. MLflow is loaded only to register.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import SUBSTRINGS, read_json, sha256_of
from pipeline.export.hub_folder import FILES, MANIFEST, README, REQUIRED
from pipeline.model.saved import CONFIG, HUB_WEIGHTS, WEIGHTS, SavedModel, without_format
from pipeline.serving.model_source import CARD, Card, card_of

MB = 1 << 20
# Bytes that a file may have. A network of 2,048 units and 3 layers has 430 MB, an n-gram model of 32 MB of text 400 MB.
LIMITS = {HUB_WEIGHTS: 4096 * MB, "ngram.safetensors": 1024 * MB, SUBSTRINGS.name: 256 * MB, "dictionary.json": 64 * MB}
OTHER_LIMIT = 4 * MB
NAMES = (*FILES, CARD, MANIFEST)
CHUNK = 1 << 20


@contextmanager
def opened(address: str) -> Iterator[tuple[Path, SavedModel, Card]]:
    """Give a folder with the checked files of the model at `address`, the model, and its card.

    `address` is a folder, a zip file, or an address that fsspec knows, such as hf://ORGANISATION/NAME. The given folder
    is a temporary copy with charlm's own file names. UserError, which names the file, if anything is missing, damaged,
    too large, or not what the other files say.
    """
    with TemporaryDirectory(prefix="charlm-import-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        _copy(address, folder)
        for name in (CONFIG, MANIFEST):  # a newer format may have other files, and other contents of these
            if (folder / name).exists():
                without_format(_json(address, folder / name), f"{address}/{name}")
        for name in REQUIRED:
            if not (folder / name).exists():
                raise UserError(f"{address}: no {name}; allowed is a folder that `charlm export` wrote")
        _check_manifest(address, folder)
        card = _card(address, folder)
        (folder / CARD).unlink(missing_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for name, own in FILES.items():
            if (folder / name).exists():
                (folder / name).rename(folder / own)
        try:
            model = SavedModel.load(folder)
        except UserError as error:
            raise UserError(f"{address}: {str(error).replace(f'{folder}/', '')}") from None
        yield folder, model, card


def _copy(address: str, folder: Path) -> None:
    """Copy the known files at `address` to `folder`; others are ignored."""
    if "://" in address:
        _copy_remote(address, folder)
    elif Path(address).is_dir():
        for name in NAMES:
            path = Path(address) / name
            # An old release's folder, or one that was copied out of a registry, has charlm's own name for the weights.
            if not path.exists() and name in FILES:
                path = Path(address) / FILES[name]
            if path.is_file():
                with path.open("rb") as file:
                    _copy_limited(file, folder / name, f"{address}/{name}")
    elif zipfile.is_zipfile(address):
        _copy_zip(address, folder)
    else:
        raise UserError(f"{address}: no model there; allowed is a folder, a zip file, or an address like hf://NAME")


def _copy_zip(address: str, folder: Path) -> None:
    """Copy the known files of a zip file, at its top or in one folder. Only names count: no path leaves `folder`."""
    try:
        with zipfile.ZipFile(address) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if path.name in NAMES and len(path.parts) <= 2 and ".." not in path.parts and not entry.is_dir():
                    if (folder / path.name).exists():
                        raise UserError(f"{address}: holds {path.name} twice")
                    with archive.open(entry) as file:
                        _copy_limited(file, folder / path.name, f"{address}: {entry.filename}")  # type: ignore[arg-type]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{address}: a damaged zip file, or one with a password: {one_line(error)}") from None


def _copy_remote(address: str, folder: Path) -> None:
    from fsspec.core import url_to_fs  # not for a folder

    missing: FileNotFoundError | None = None
    try:
        fs, path = url_to_fs(address)
        for name in NAMES:
            remote = f"{path.rstrip('/')}/{name}"
            try:
                size = fs.info(remote)["size"]
            except FileNotFoundError as error:
                missing = error
                continue
            with fs.open(remote, "rb") as file:
                _copy_limited(file, folder / name, f"{address}/{name}", size=size)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{address}: {one_line(error)}; hf:// needs `pip install 'charlm[hub]'`") from None
    except Exception as error:  # noqa: BLE001  # each store has errors of its own
        raise UserError(f"{address}: cannot be read: {one_line(error)}") from None
    if missing and not any(folder.iterdir()):
        raise UserError(f"{address}: no model there, or it is private: {one_line(missing)}")


def _copy_limited(file: BinaryIO, target: Path, shown: str, *, size: int | None = None) -> None:
    """Copy `file` to `target`; UserError if it is larger than is allowed, before it is read if `size` says so."""
    limit = LIMITS.get(target.name, OTHER_LIMIT)
    too_large = UserError(f"{shown}: larger than {limit // MB} MB, the most that is allowed")
    if size is not None and size > limit:
        raise too_large
    with target.open("wb") as copy:
        while chunk := file.read(CHUNK):
            if copy.tell() + len(chunk) > limit:
                raise too_large
            copy.write(chunk)


def _check_manifest(address: str, folder: Path) -> None:
    """Compare sizes and hashes with the manifest's, if there is one."""
    if not (folder / MANIFEST).exists():
        return
    found = without_format(_json(address, folder / MANIFEST), f"{address}/{MANIFEST}")
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise UserError(f"{address}/{MANIFEST}: not a manifest; allowed is an object of files with bytes and sha256")
    for name in sorted(set(found) | {path.name for path in folder.iterdir()} - {MANIFEST, README}):
        path = folder / name
        if name not in NAMES or not path.exists():
            raise UserError(f"{address}/{MANIFEST}: names {name!r}, which is not there")
        if name not in found:
            raise UserError(f"{address}/{name}: not in {MANIFEST}")
        digest = sha256_of(path)
        if digest != found[name].get("sha256"):
            raise UserError(f"{address}/{name}: changed or cut off: SHA-256 {digest}, not that of {MANIFEST}")


def _card(address: str, folder: Path) -> Card:
    """Return what card.json says, as far as charlm knows it; nothing if there is none."""
    if not (folder / CARD).exists():
        return {}
    try:
        found = TypeAdapter(Card).validate_json((folder / CARD).read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise UserError(f"{address}/{CARD}: {one_line(where + first['msg'], most=200)}") from None
    return cast("Card", {key: value for key, value in found.items() if key in Card.__annotations__})


def _json(address: str, path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{address}/{path.name}: not JSON") from None


IMPORTED_TAG = "imported.from"


def register_import(folder: Path, model: SavedModel, card: Card, *, name: str, origin: str) -> str:
    """Register the model in `folder`, checked by `opened`, as a version of `name`; returns what happened, in a line.

    It becomes the champion only if there is none: its figures were not measured here, so they are shown but not
    compared.
    `origin` is saved as a tag; it must not contain a password.
    """
    import mlflow  # 3 to 4 s

    from pipeline.serving.registration import ensure_registered_model, log_model
    from pipeline.tracking.registry import Gate, Standing, pass_gate
    from pipeline.tracking.store import WEIGHTS_TAG, open_store

    described = card_of(model) | card | {"imported": origin}
    with open_store() as (client, experiment_id):
        run = client.create_run(experiment_id, run_name=f"import {name}", tags={IMPORTED_TAG: origin})
        with mlflow.start_run(run_id=run.info.run_id):
            info = log_model(folder, card=described, example_prompt=model.dictionary.characters[0])
        ensure_registered_model(client, name)
        tags = {IMPORTED_TAG: origin, WEIGHTS_TAG: sha256_of(folder / WEIGHTS), "data.source": card.get("corpus") or ""}
        version = client.create_model_version(
            name, source=info.model_uri, run_id=run.info.run_id, tags=tags, model_id=info.model_id
        )
        decision = pass_gate(client, name, Standing(str(version.version), float("inf"), None), Gate())
    return f"{name} version {version.version} is {decision.alias}: imported from {origin}"

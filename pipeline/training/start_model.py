"""Starts a training from another model: checks that it fits, and gives its weights to the new dictionary."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import MODEL, SUBSTRINGS, read_json, whole_folder, write_json
from pipeline.dataset.dictionary import Dictionary
from pipeline.model.saved import CONFIG, DICTIONARY, WEIGHTS, SavedModel, Weights, weights_path
from pipeline.params.training import ModelParams

# The params that determine the shape of everything but the rows of characters. Dropout is not one: it has no weights.
SHAPE = ("cell", "num_layers", "num_hidden", "num_embed")
# The weights that have a row for each id.
ROWS = ("embedding.weight", "output.weight", "output.bias")
KEY = "train.start_from"


START_FILE = "start.json"


def load_start_model(folder: Path, params: ModelParams, *, address: str, root: Path) -> SavedModel:
    """Return the model in `folder`, which is at `address` in the words of params.yaml.

    UserError if it is missing, damaged or of another shape than `params`, or if it is this project's own output, which
    every training replaces.
    """
    if folder.resolve() == (root / MODEL).resolve():
        raise UserError(
            f"{KEY}: {address} is what training replaces; allowed is a copy in another folder, or models:/NAME@ALIAS"
        )
    if not folder.is_dir():
        raise UserError(
            f"{KEY}: {address}: no model there; allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    try:
        model = SavedModel.load(folder)
    except UserError as error:
        raise UserError(f"{KEY}: {address} cannot be loaded: {error}") from None
    found, wanted = model.config.model_dump(include=set(SHAPE)), params.model_dump(include=set(SHAPE))
    if apart := [key for key in SHAPE if found[key] != wanted[key]]:
        raise UserError(
            f"{KEY}: {address} has {', '.join(f'model.{key} {found[key]}' for key in apart)}; params.yaml has "
            f"{', '.join(f'model.{key} {wanted[key]}' for key in apart)}; allowed are equal values"
        )
    return model


def copy_start_model(folder: Path | None, target: Path) -> None:
    """Make `target` the copy of the network in `folder`; a folder with a file that says so if there is none.

    Only the files that a network consists of are copied, whatever else is in the folder. Its n-gram model is left out:
    a training counts the n-grams of its own text.
    """
    with whole_folder(target) as part:
        # DVC warns about empty folders.
        write_json(part / START_FILE, {"start": folder is not None})
        if folder is not None:
            shutil.copyfile(weights_path(folder), part / WEIGHTS)
            shutil.copyfile(folder / DICTIONARY, part / DICTIONARY)
            write_json(part / CONFIG, read_json(folder / CONFIG) | {"ngram_order": 0})
            if (folder / SUBSTRINGS.name).is_file():  # models of earlier releases have none
                shutil.copyfile(folder / SUBSTRINGS.name, part / SUBSTRINGS.name)


def adapted_weights(base: SavedModel, fresh: Weights, dictionary: Dictionary, counts: npt.NDArray[np.int64]) -> Weights:
    """Return the weights of `base` with the rows of `dictionary`, the text's.

    Characters are matched by what they are, symbols by their role. What `base` lacks keeps its row of `fresh`, a new
    network's weights; what the text lacks is dropped. `counts` is int64 [vocab], how often each id occurs in the
    training text. The bias of a new character is the logarithm of its frequency, on the scale of the trained biases:
    a network that gave every known character its frequency would give the new one its own.
    """
    known = {name: row for row, name in enumerate(_names(base.dictionary))}
    rows = np.array([known.get(name, -1) for name in _names(dictionary)])
    shared = rows >= 0
    weights = dict(base.weights)
    for name in ROWS:
        weights[name] = fresh[name].copy()
        weights[name][shared] = base.weights[name][rows[shared]]
    # As in a new network, 0.5 is added to each count.
    frequencies = (counts + 0.5) / counts.sum()
    logs = np.log(frequencies)
    offset = np.average(weights["output.bias"][shared] - logs[shared], weights=frequencies[shared])
    weights["output.bias"][~shared] = logs[~shared] + offset
    return weights


def _names(dictionary: Dictionary) -> list[str]:
    """Return a name for each id: a symbol's is a word, which no character is."""
    unknown = ["unknown"] if dictionary.unknown else []
    ends = ["begin", "end"] if dictionary.bounded else []
    return ["padding", *unknown, *ends, *dictionary.characters]

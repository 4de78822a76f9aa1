"""The saved form of a model: a folder of plain data, readable without torch.

weights.safetensors   float32, names and shapes as NetworkConfig.shapes
config.json           NetworkConfig
dictionary.json       Dictionary
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.dataset.dictionary import Dictionary
from pipeline.errors import UserError
from pipeline.files import read_json, whole_folder, write_json
from pipeline.model.config import NetworkConfig

# Where the pipeline writes its model, and what to do while there is none.
OWN_MODEL = "models/charlm"
NO_MODEL_YET = "there is no model yet; run `make repro` or `dvc repro` first"

WEIGHTS, CONFIG, DICTIONARY = "weights.safetensors", "config.json", "dictionary.json"

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class SavedModel:
    """A network's shape, weights (float32) and dictionary."""

    config: NetworkConfig
    weights: Weights
    dictionary: Dictionary

    def save(self, folder: Path) -> None:
        """Write the three files; `folder` is replaced as a whole or not at all."""
        with whole_folder(folder) as part:
            save_file(self.weights, part / WEIGHTS)
            write_json(part / CONFIG, self.config.model_dump())
            self.dictionary.save(part / DICTIONARY)

    @classmethod
    def load(cls, folder: Path) -> "SavedModel":
        """Return the model in `folder`.

        UserError names the file if one is missing, cut off, holds NaN, or if the weights do not fit the configuration
        or the dictionary.
        """
        dictionary = Dictionary.load(folder / DICTIONARY)
        try:
            config = NetworkConfig.model_validate(read_json(folder / CONFIG))
        except FileNotFoundError:
            raise UserError(f"{folder / CONFIG}: no such file; `dvc repro` makes a model") from None
        except (OSError, ValueError, ValidationError):
            raise UserError(f"{folder / CONFIG}: not a network's configuration") from None
        if config.vocab_size != len(dictionary):
            raise UserError(
                f"{folder / DICTIONARY}: holds {len(dictionary)} ids, allowed are the {config.vocab_size} of {CONFIG}"
            )
        return cls(config=config, weights=_load_weights(folder / WEIGHTS, config), dictionary=dictionary)


def _load_weights(path: Path, config: NetworkConfig) -> Weights:
    try:
        weights: Weights = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes a model") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged or cut off: {error}") from None
    wanted = config.shapes()
    if set(weights) != set(wanted):
        odd = sorted(set(weights) ^ set(wanted))
        raise UserError(f"{path}: the weights do not fit {CONFIG}: {', '.join(odd[:3])} missing or too many")
    for name, shape in wanted.items():
        if weights[name].shape != shape or weights[name].dtype != np.float32:
            raise UserError(
                f"{path}: {name} is {weights[name].dtype} {list(weights[name].shape)}, allowed is float32 {list(shape)}"
            )
        if not np.isfinite(weights[name]).all():
            raise UserError(f"{path}: {name} holds NaN or infinity")
    return weights

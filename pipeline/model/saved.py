"""Saves and loads a model as a folder of plain data, readable without torch.

weights.safetensors   float32, names and shapes as NetworkConfig.shapes
ngram.safetensors     the n-gram model that helps the network, if `ngram_order` is not 0 (pipeline/model/mixture.py)
config.json           NetworkConfig
dictionary.json       Dictionary
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, whole_folder, write_json
from pipeline.dataset.dictionary import Dictionary
from pipeline.model.mixture import load_ngram, save_ngram
from pipeline.model.ngram import NgramModel
from pipeline.params.training import ModelParams

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# The form of a model's files that this release writes and reads. A later one writes its number as `format` into
# config.json and manifest.json; files of form 1 need not have the key.
FORMAT = 1


class NetworkConfig(BaseModel):
    """The params that determine the model's shape, and its vocabulary size (including symbols).

    The bounds are those of the params group `model`: a folder from elsewhere must not ask for endless work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(pattern="^(lstm|gru|rnn)$")
    num_layers: int = Field(ge=1, le=16)
    num_hidden: int = Field(ge=1, le=8192)
    num_embed: int = Field(ge=1, le=8192)
    dropout: float = Field(ge=0, lt=1)
    vocab_size: int = Field(ge=2)
    ngram_order: int = Field(default=0, ge=0, le=30)

    @classmethod
    def of(cls, params: ModelParams, *, vocab_size: int) -> "NetworkConfig":
        """Return the configuration for the params group `model`."""
        network = params.model_dump(exclude={"init_magnitude", "init_output", "ngram"})
        return cls(**network, vocab_size=vocab_size, ngram_order=params.ngram.order)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of each weight, in the order in which they are saved.

        Names and layouts are PyTorch's: `weight_ih` [gates * hidden, inputs] with the gates in the order i, f, g, o
        (LSTM) or r, z, n (GRU), and two bias vectors.
        """
        rows = GATES[self.cell] * self.num_hidden
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (self.vocab_size, self.num_embed)}
        for layer in range(self.num_layers):
            inputs = self.num_embed if layer == 0 else self.num_hidden
            shapes |= {
                f"layers.{layer}.weight_ih_l0": (rows, inputs),
                f"layers.{layer}.weight_hh_l0": (rows, self.num_hidden),
                f"layers.{layer}.bias_ih_l0": (rows,),
                f"layers.{layer}.bias_hh_l0": (rows,),
            }
        shapes |= {"output.weight": (self.vocab_size, self.num_hidden), "output.bias": (self.vocab_size,)}
        return shapes


# Where the pipeline writes its model, and what to do while there is none.
OWN_MODEL = "models/charlm"
NO_MODEL_YET = "there is no model yet; run `make repro` or `dvc repro` first"

WEIGHTS, CONFIG, DICTIONARY, NGRAM = "weights.safetensors", "config.json", "dictionary.json", "ngram.safetensors"
# The weights' name in a folder made for a model hub (`charlm export`).
HUB_WEIGHTS = "model.safetensors"

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class SavedModel:
    """A network's configuration, weights (float32) and dictionary, and the n-gram model that helps it, if any."""

    config: NetworkConfig
    weights: Weights
    dictionary: Dictionary
    ngram: NgramModel | None = None

    def without_ngram(self) -> "SavedModel":
        """Return the network alone."""
        return replace(self, config=self.config.model_copy(update={"ngram_order": 0}), ngram=None)

    def save(self, folder: Path) -> None:
        """Write the files; `folder` is replaced completely or not at all."""
        with whole_folder(folder) as part:
            # safetensors' own save_file makes files that only their owner can read.
            (part / WEIGHTS).write_bytes(save(self.weights))
            write_json(part / CONFIG, self.config.model_dump())
            self.dictionary.save(part / DICTIONARY)
            if self.ngram is not None:
                save_ngram(self.ngram, part / NGRAM)

    @classmethod
    def load(cls, folder: Path) -> "SavedModel":
        """Return the model in `folder`.

        Raises UserError, which names the file, if one is missing, truncated or contains NaN, or if weights,
        configuration and dictionary do not match.
        """
        try:
            config = NetworkConfig.model_validate(without_format(read_json(folder / CONFIG), str(folder / CONFIG)))
        except FileNotFoundError:
            raise UserError(f"{folder / CONFIG}: no such file; `dvc repro` makes a model") from None
        except (OSError, ValueError, ValidationError):
            raise UserError(f"{folder / CONFIG}: not a network's configuration") from None
        # After the configuration, which says whether this release can read the other files.
        dictionary = Dictionary.load(folder / DICTIONARY)
        if config.vocab_size != len(dictionary):
            raise UserError(
                f"{folder / DICTIONARY}: holds {len(dictionary)} ids, allowed are the {config.vocab_size} of {CONFIG}"
            )
        if twice := [char for char, count in Counter(dictionary.characters).items() if count > 1]:
            raise UserError(f"{folder / DICTIONARY}: holds {twice[0]!r} twice, allowed are distinct characters")
        weights, ngram = _load_weights(weights_path(folder), config), None
        if config.ngram_order:
            ngram = load_ngram(folder / NGRAM, vocab_size=config.vocab_size)
        return cls(config=config, weights=weights, dictionary=dictionary, ngram=ngram)


def without_format(content: Any, path: str) -> Any:
    """Return the content of a model's JSON file at `path` without its `format`; UserError if that is a newer one."""
    if not isinstance(content, dict):
        return content
    found = content.get("format", FORMAT)
    if type(found) is int and found > FORMAT:
        message = f"format: found {found}, allowed is {FORMAT}; a newer charlm wrote this model, so update charlm"
        raise UserError(f"{path}: {message}")
    return {key: value for key, value in content.items() if key != "format" or found != FORMAT}


def weights_path(folder: Path) -> Path:
    """Return the file with the weights of the model in `folder`, whichever of its names it has there."""
    own, hub = folder / WEIGHTS, folder / HUB_WEIGHTS
    return hub if hub.is_file() and not own.exists() else own


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

"""Group `model`: the network."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.base import Group


class ModelParams(Group):
    """Embedding, recurrent layers, dropout, linear.

    `init_magnitude` is Xavier's: weights are normal with standard deviation
    sqrt(init_magnitude / ((fan_in + fan_out) / 2)); biases are 0. `init_output: unigram` starts the output layer at the
    characters' frequencies instead: its biases are their logarithms, its weights near 0, so that no update is spent on
    learning them.
    """

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    num_layers: Annotated[int, Field(ge=1, le=16)] = 1
    num_hidden: Annotated[int, Field(ge=1, le=8192)] = 256
    num_embed: Annotated[int, Field(ge=1, le=8192)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    init_magnitude: Annotated[float, Field(gt=0)] = 3.0
    init_output: Literal["xavier", "unigram"] = "unigram"

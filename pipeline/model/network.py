"""The PyTorch network: embedding, recurrent layers, dropout, linear output. Works on ids; the time axis comes first."""

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.model.saved import NetworkConfig, Weights

# Standard deviation of output weights so small that a new network predicts the character frequencies, and yet no two
# hidden units are the same.
START_SD = 0.01

# One entry per layer: h [1, batch, hidden], or (h, c) for an LSTM.
State = list[Tensor | tuple[Tensor, Tensor]]

CELLS: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class CharNetwork(nn.Module):
    """A character-level recurrent language model.

    Each layer is a module of its own with explicit dropout in between, since `nn.LSTM(dropout>0)` on cuDNN is not
    reproducible. There is dropout before the output as well, as in the tutorial.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.num_embed)
        self.layers = nn.ModuleList(
            CELLS[config.cell](config.num_embed if layer == 0 else config.num_hidden, config.num_hidden)
            for layer in range(config.num_layers)
        )
        self.output = nn.Linear(config.num_hidden, config.vocab_size)

    def forward(
        self, ids: Tensor, state: State | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Return logits [time, batch, vocab] for `ids` int64 [time, batch], and the state after them.

        Without `state` the layers start from zeros. `generator` draws what dropout drops, PyTorch's own without one.
        """
        hidden = self.embedding(ids)
        after: State = []
        for number, layer in enumerate(self.layers):
            if number:
                hidden = self._dropout(hidden, generator)
            hidden, last = layer(hidden, None if state is None else state[number])
            after.append(last)
        return self.output(self._dropout(hidden, generator)), after

    def _dropout(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        # nn.Dropout draws from one generator for all threads, in the order in which they happen to come.
        if not (self.training and self.config.dropout):
            return hidden
        kept = 1 - self.config.dropout
        return hidden * torch.empty_like(hidden).bernoulli_(kept, generator=generator).div_(kept)

    def weights(self) -> Weights:
        """Return copies of the weights as float32 arrays on the CPU, with the names of NetworkConfig.shapes."""
        return {name: value.detach().float().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def load_weights(self, weights: Weights) -> None:
        """Set the weights; their names and shapes must be those of `config`."""
        self.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})


def initialise(network: CharNetwork, *, magnitude: float, generator: torch.Generator) -> None:
    """Draw all initial weights, including the embedding's, by Gaussian Xavier initialisation; biases are 0.

    The standard deviation is sqrt(magnitude / ((fan_in + fan_out) / 2)), with the fans of each matrix as it is stored:
    the same as MXNet's `mx.init.Xavier(rnd_type="gaussian", factor_type="avg", magnitude=3)`, which the tutorial uses.
    """
    with torch.no_grad():
        for value in network.parameters():
            if value.dim() == 1:
                value.zero_()
                continue
            fan_out, fan_in = cast("tuple[int, int]", tuple(value.shape))
            value.normal_(0.0, math.sqrt(magnitude / ((fan_in + fan_out) / 2)), generator=generator)


def start_at_frequencies(network: CharNetwork, counts: npt.NDArray[np.int64], *, generator: torch.Generator) -> None:
    """Initialise the output layer so that it predicts the character frequencies: biases are logarithms, weights near 0.

    `counts` is int64 [vocab]; 0.5 is added to each count, so that characters that never occur have a logarithm too.
    """
    with torch.no_grad():
        frequencies = torch.from_numpy((counts + 0.5) / counts.sum())
        network.output.bias.copy_(frequencies.log())
        network.output.weight.normal_(0.0, START_SD, generator=generator)

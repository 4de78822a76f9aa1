"""The shape of a network: what must be known to build it and to read its weights. No torch."""

from pydantic import BaseModel, ConfigDict, Field

from pipeline.params.model import ModelParams

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class NetworkConfig(BaseModel):
    """The params that make the network's shape, and its vocabulary size (symbols included)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(pattern="^(lstm|gru|rnn)$")
    num_layers: int = Field(ge=1)
    num_hidden: int = Field(ge=1)
    num_embed: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    vocab_size: int = Field(ge=2)

    @classmethod
    def of(cls, params: ModelParams, *, vocab_size: int) -> "NetworkConfig":
        """Return the configuration that group `model` asks for."""
        return cls(**params.model_dump(exclude={"init_magnitude", "init_output"}), vocab_size=vocab_size)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every weight's name and shape, in the order in which they are saved.

        The names and layouts are PyTorch's: `weight_ih` [gates * hidden, inputs] with the gates in the order i, f, g, o
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

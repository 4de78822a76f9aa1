"""Writes a model's network as an ONNX file, which runs wherever ONNX Runtime does.

The graph is built from ONNX's own LSTM, GRU and RNN operators: PyTorch's exporter would freeze the length of the text.

    inputs   ids        int64   [batch, time]
             h, and c for an LSTM   float32 [layers, batch, hidden]; zeros at the start of a text
    outputs  log_probs  float32 [batch, time, vocab]: natural logarithms of the probabilities of the next id
             h_after, c_after       the states after the last id

The file's metadata are what a program needs to sample: `dictionary` (dictionary.json), `sampling` (the default
options), `writable` (the ids that may be drawn) and `card`, all JSON. The n-gram model is not in it, since ONNX has no
operator for it: a program gets the probabilities of the network alone.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.core.files import whole_file
from pipeline.model.saved import GATES, SavedModel
from pipeline.params.sampling import SamplingOptions

OnnxWeights = Literal["fp32", "bf16"]

# The oldest that has everything used here, so that older runtimes can read the file too.
OPSET, IR_VERSION = 17, 8
OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# Where ONNX's gates are among PyTorch's: i, o, f, c of i, f, g, o; z, r, h of r, z, n.
GATE_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}

Floats = npt.NDArray[np.float32]


def write_onnx(model: SavedModel, path: Path, *, card: dict[str, Any], weights: OnnxWeights = "fp32") -> None:
    """Write the network of `model` to `path`; with `weights="bf16"` the matrices are rounded and take half the bytes.

    Raises OSError if the file cannot be written; `path` is replaced completely or not at all.
    """
    graph = _Graph(weights)
    config, values = model.config, model.weights
    states = ["h", "c"] if config.cell == "lstm" else ["h"]
    for state in states:
        graph.add("Split", [state], [f"{state}_{layer}" for layer in range(config.num_layers)], axis=0)
    graph.add("Transpose", ["ids"], ["ids_by_time"], perm=[1, 0])
    graph.add("Gather", [graph.matrix("embedding", values["embedding.weight"]), "ids_by_time"], ["layer_0"])
    for layer in range(config.num_layers):
        graph.add_layer(model, layer, states)
    for state in states:
        graph.add(
            "Concat", [f"{state}_after_{layer}" for layer in range(config.num_layers)], [f"{state}_after"], axis=0
        )
    graph.add("Transpose", [f"layer_{config.num_layers}"], ["outputs"], perm=[1, 0, 2])
    product = [
        graph.matrix("output_weight", values["output.weight"].T),
        graph.vector("output_bias", values["output.bias"]),
    ]
    graph.add("MatMul", ["outputs", product[0]], ["products"])
    graph.add("Add", ["products", product[1]], ["logits"])
    graph.add("LogSoftmax", ["logits"], ["log_probs"], axis=-1)

    state_shape = [config.num_layers, "batch", config.num_hidden]
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "charlm",
            inputs=[
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"]),
                *(helper.make_tensor_value_info(state, TensorProto.FLOAT, state_shape) for state in states),
            ],
            outputs=[
                helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "time", config.vocab_size]),
                *(helper.make_tensor_value_info(f"{state}_after", TensorProto.FLOAT, state_shape) for state in states),
            ],
            initializer=graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="charlm",
    )
    helper.set_model_props(made, _metadata(model, card))
    onnx.checker.check_model(made, full_check=True)
    with whole_file(path) as part:
        part.write_bytes(made.SerializeToString(deterministic=True))


def _metadata(model: SavedModel, card: dict[str, Any]) -> dict[str, str]:
    dictionary = model.dictionary
    ends = () if dictionary.end is None else (dictionary.end,)
    metadata = {
        "dictionary": dictionary.as_json(),
        "writable": [*ends, *range(dictionary.first_id, len(dictionary))],
        "sampling": asdict(SamplingOptions()),
        "card": {key: value for key, value in card.items() if key != "curve"},
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}


class _Graph:
    """The nodes and weights of a graph, in the order in which they are added."""

    def __init__(self, weights: OnnxWeights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add a node."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))

    def vector(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add an array as it is; returns its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def matrix(self, name: str, value: Floats) -> str:
        """Add a float32 matrix; returns the name of its float32 value, whatever it is saved as."""
        if self.weights == "fp32":
            return self.vector(name, value)
        rounded = value.astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(rounded), f"{name}_bf16"))
        self.add("Cast", [f"{name}_bf16"], [name], to=TensorProto.FLOAT)
        return name

    def add_layer(self, model: SavedModel, layer: int, states: list[str]) -> None:
        """Add a recurrent layer, from `layer_N` to `layer_N+1`, both float32 [time, batch, units]."""
        config = model.config
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w, r, wb, rb = (self._gates(model, f"layers.{layer}.{kind}_l0") for kind in kinds)
        biases = np.concatenate([wb, rb])[None]
        self.add(
            OPERATORS[config.cell],
            [
                f"layer_{layer}",
                self.matrix(f"input_weight_{layer}", w[None]),
                self.matrix(f"hidden_weight_{layer}", r[None]),
                self.vector(f"bias_{layer}", biases),
                "",  # all texts of a batch have the same length
                *(f"{state}_{layer}" for state in states),
            ],
            [f"outputs_{layer}", *(f"{state}_after_{layer}" for state in states)],
            hidden_size=config.num_hidden,
            # PyTorch's GRU multiplies by the reset gate after the recurrent product.
            **({"linear_before_reset": 1} if config.cell == "gru" else {}),
        )
        # The operator has an axis of directions, of which there is one.
        axis = self.vector(f"direction_{layer}", np.array([1], dtype=np.int64))
        self.add("Squeeze", [f"outputs_{layer}", axis], [f"layer_{layer + 1}"])

    def _gates(self, model: SavedModel, name: str) -> Floats:
        """Return a weight with the gates in ONNX's order."""
        value, cell = model.weights[name], model.config.cell
        gates = value.reshape(GATES[cell], model.config.num_hidden, -1)[list(GATE_ORDER[cell])]
        return np.ascontiguousarray(gates.reshape(value.shape))

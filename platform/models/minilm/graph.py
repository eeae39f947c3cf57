"""The network as an ONNX graph, from token ids to unit vectors.

Standard operators only, so that any runtime can run it. Three things make it
cheap on a CPU, where nine tenths of the time are matrix products anyway:

- dense layers work on `[batch * sequence, 384]` with their bias inside (Gemm),
- query, key and value are one product, and the attention's scale sits in the
  query's weights,
- pooling is a product with the mask, and its division by the number of tokens
  is left out, since normalising the vector takes any factor away.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.minilm.architecture import DIMENSIONS, HEADS, LAYER_NORM_EPSILON, LAYERS, MAX_TOKENS

Weights = Mapping[str, NDArray[np.float32]]

_OPSET: Final = 20
_IR_VERSION: Final = 9
_HEAD_DIMENSIONS: Final = DIMENSIONS // HEADS
# Added to the attention scores of padding: its softmax is exactly zero.
_HIDDEN_SCORE: Final = np.float32(-3.0e38)


class _Graph:
    """Collects nodes and constants; methods answer the name of what they added."""

    def __init__(self, weights: Weights) -> None:
        self._weights: Final = weights
        self.nodes: Final[list[onnx.NodeProto]] = []
        self.constants: Final[dict[str, onnx.TensorProto]] = {}

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        names = [f"{operator}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("int_" + "_".join(map(str, values)), np.array(values, np.int64))

    def weight(self, name: str) -> NDArray[np.float32]:
        return self._weights[name]

    def layer_norm(self, name: str, left: str, right: str) -> str:
        scale = self.constant(f"{name}.weight", self.weight(f"{name}.weight"))
        shift = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
        total = self.add("Add", [left, right])
        return self.add(
            "LayerNormalization", [total, scale, shift], axis=-1, epsilon=LAYER_NORM_EPSILON
        )

    def dense(self, name: str, rows: str) -> str:
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.product(name, rows, weight.T, bias)

    def product(
        self, name: str, rows: str, matrix: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        inputs = [
            rows,
            self.constant(f"{name}.matrix", matrix),
            self.constant(f"{name}.bias", bias),
        ]
        return self.add("Gemm", inputs)


def build_graph(weights: Weights) -> onnx.ModelProto:
    """The model of `weights`, which carry the names of the published checkpoint.

    Inputs: `input_ids` and `attention_mask`, int64 `[batch, sequence]`, with a
    sequence of at most 256. Output: `embedding`, float32 `[batch, 384]`, each row
    the mean of the unmasked tokens' hidden states, of length one.
    """
    graph = _Graph(weights)
    mask = graph.add("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    batch_and_sequence = graph.add("Shape", ["input_ids"])
    hidden = graph.add("Reshape", [_embed(graph), graph.integers(-1, DIMENSIONS)])
    scores = _scores_of_padding(graph, mask)
    for layer in range(LAYERS):
        hidden = _layer(graph, f"encoder.layer.{layer}", hidden, scores, batch_and_sequence)
    _pool(graph, hidden, mask, batch_and_sequence)
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    vectors = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])
    return helper.make_model(
        helper.make_graph(
            graph.nodes, "minilm", ids, [vectors], initializer=list(graph.constants.values())
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="agentmesh",
    )


def _embed(graph: _Graph) -> str:
    """Word plus position plus sentence kind, normalised: `[batch, sequence, 384]`."""
    words = graph.constant("words", graph.weight("embeddings.word_embeddings.weight"))
    # A text is always the first sentence of its pair: that row is a constant.
    kind = graph.weight("embeddings.token_type_embeddings.weight")[0]
    positions = graph.weight("embeddings.position_embeddings.weight")[:MAX_TOKENS] + kind
    length = graph.add("Shape", ["input_ids"], start=1, end=2)
    first_positions = graph.add(
        "Slice",
        [
            graph.constant("positions", positions),
            graph.integers(0),
            length,
            graph.integers(0),
        ],
    )
    found = graph.add("Gather", [words, "input_ids"])
    return graph.layer_norm("embeddings.LayerNorm", found, first_positions)


def _scores_of_padding(graph: _Graph, mask: str) -> str:
    """What hides padding from attention: `[batch, 1, 1, sequence]`."""
    padding = graph.add("Sub", [graph.constant("one", np.array(1, np.float32)), mask])
    scores = graph.add("Mul", [padding, graph.constant("hidden", np.array(_HIDDEN_SCORE))])
    return graph.add("Unsqueeze", [scores, graph.integers(1, 2)])


def _layer(graph: _Graph, name: str, hidden: str, padding: str, batch_and_sequence: str) -> str:
    """One layer of the encoder, on `[batch * sequence, 384]`."""
    attended = _attention(graph, f"{name}.attention.self", hidden, padding, batch_and_sequence)
    attended = graph.dense(f"{name}.attention.output.dense", attended)
    hidden = graph.layer_norm(f"{name}.attention.output.LayerNorm", attended, hidden)
    wide = graph.add("Gelu", [graph.dense(f"{name}.intermediate.dense", hidden)])
    narrow = graph.dense(f"{name}.output.dense", wide)
    return graph.layer_norm(f"{name}.output.LayerNorm", narrow, hidden)


def _attention(graph: _Graph, name: str, hidden: str, padding: str, batch_and_sequence: str) -> str:
    """Each token's mixture of the others', on `[batch * sequence, 384]`."""
    scale = np.float32(_HEAD_DIMENSIONS**-0.5)
    factors = {"query": scale, "key": np.float32(1), "value": np.float32(1)}
    matrices = [graph.weight(f"{name}.{part}.weight").T * by for part, by in factors.items()]
    biases = [graph.weight(f"{name}.{part}.bias") * by for part, by in factors.items()]
    joined = graph.product(name, hidden, np.concatenate(matrices, 1), np.concatenate(biases))

    heads = graph.add(
        "Concat",
        [batch_and_sequence, graph.integers(len(factors), HEADS, _HEAD_DIMENSIONS)],
        axis=0,
    )
    by_part = graph.add("Transpose", [graph.add("Reshape", [joined, heads])], perm=[2, 0, 3, 1, 4])
    query, key, value = (
        graph.add("Squeeze", [part, graph.integers(0)])
        for part in graph.add_many("Split", [by_part], 3, axis=0, num_outputs=3)
    )
    scores = graph.add("MatMul", [query, graph.add("Transpose", [key], perm=[0, 1, 3, 2])])
    shares = graph.add("Softmax", [graph.add("Add", [scores, padding])], axis=-1)
    mixed = graph.add("Transpose", [graph.add("MatMul", [shares, value])], perm=[0, 2, 1, 3])
    return graph.add("Reshape", [mixed, graph.integers(-1, DIMENSIONS)])


def _pool(graph: _Graph, hidden: str, mask: str, batch_and_sequence: str) -> None:
    """The unit vector along the sum of the tokens: `embedding`, `[batch, 384]`."""
    shape = graph.add("Concat", [batch_and_sequence, graph.integers(DIMENSIONS)], axis=0)
    tokens = graph.add("Reshape", [hidden, shape])
    chosen = graph.add("Unsqueeze", [mask, graph.integers(1)])
    total = graph.add("Squeeze", [graph.add("MatMul", [chosen, tokens]), graph.integers(1)])
    graph.nodes.append(helper.make_node("LpNormalization", [total], ["embedding"], axis=-1, p=2))

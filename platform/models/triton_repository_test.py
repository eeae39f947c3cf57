"""The model repository that Triton is given."""

from pathlib import Path

from models.minilm.reference import require_model
from models.triton_repository import assemble


def test_the_repository_stands_on_its_own(tmp_path: Path) -> None:
    """It has the configuration, the model, the code that it imports and the weights."""
    require_model()
    assemble(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == [
        "text_embedder/1/minilm/model.onnx",
        "text_embedder/1/minilm/model.onnx.data",
        "text_embedder/1/minilm/tokenizer.json",
        "text_embedder/1/model.py",
        "text_embedder/1/models/minilm/architecture.py",
        "text_embedder/1/models/minilm/batches.py",
        "text_embedder/1/models/minilm/embedder.py",
        "text_embedder/1/models/minilm/network.py",
        "text_embedder/1/models/minilm/texts.py",
        "text_embedder/1/models/minilm/tokens.py",
        "text_embedder/config.pbtxt",
    ]

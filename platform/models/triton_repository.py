"""Puts a Triton model repository together: configuration, code and weights."""

from pathlib import Path
from typing import Final

from models.minilm.architecture import GRAPH_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from models.minilm.embedder import PACKAGED_MODEL

MODEL_NAME: Final = "text_embedder"

_HERE: Final = Path(__file__).parent
_SOURCE: Final = _HERE / "repository" / MODEL_NAME
# What model.py imports, as it lies under platform/.
_CODE: Final = (
    "models/minilm/architecture.py",
    "models/minilm/batches.py",
    "models/minilm/embedder.py",
    "models/minilm/network.py",
    "models/minilm/texts.py",
    "models/minilm/tokens.py",
)


def assemble(repository: Path, model_directory: Path = PACKAGED_MODEL) -> None:
    """Fills `repository`, an empty folder, with links to the model `text_embedder`.

    It stands on its own but for the links: `cp -rL` makes one for a container.
    `model_directory` holds what `export_onnx` writes.
    """
    model, version = Path(MODEL_NAME), Path(MODEL_NAME) / "1"
    files = {
        model / "config.pbtxt": _SOURCE / "config.pbtxt",
        version / "model.py": _SOURCE / "1" / "model.py",
        **{version / name: _HERE.parent / name for name in _CODE},
        **{
            version / "minilm" / name: model_directory / name
            for name in (GRAPH_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
        },
    }
    for name, target in files.items():
        link = repository / name
        link.parent.mkdir(parents=True, exist_ok=True)
        # Resolved, since ONNX Runtime looks for the weights beside the real graph.
        link.symlink_to(target.resolve(strict=True))

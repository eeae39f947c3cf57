"""Test-only: vectors that another runtime of the same model computed.

They come from sentence-transformers on PyTorch: mean pooling, unit length, at most
256 word pieces. The texts are our own: empty, one letter, many scripts, code, and
600 words to see where they are cut off.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from models.minilm.architecture import GRAPH_FILE, PACKAGED_MODEL

_VECTORS: Final = Path(__file__).parent / "reference_vectors.jsonl"
MIN_COSINE: Final = 0.9999


@dataclass(frozen=True, slots=True)
class Reference:
    """Some texts, and their unit vectors `[len(texts), 384]`."""

    texts: list[str]
    vectors: NDArray[np.float32]


def reference() -> Reference:
    """What the embedder must give."""
    lines = [json.loads(line) for line in _VECTORS.read_text("utf-8").splitlines()]
    vectors = np.array([line["vector"] for line in lines], np.float32)
    # Rounded to seven digits in the file.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Reference([line["text"] for line in lines], vectors)


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of each row of `left` with that of `right`; both hold unit vectors."""
    return np.sum(left * right, axis=1)


def require_model() -> None:
    """Skips the test where the model was not built."""
    if not (PACKAGED_MODEL / GRAPH_FILE).is_file():
        pytest.skip(
            f"{PACKAGED_MODEL} is missing; `bazel test` makes it, and so does"
            f" `python -m models.minilm.export_onnx {PACKAGED_MODEL}`"
        )

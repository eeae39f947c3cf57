"""Sentence embeddings by all-MiniLM-L6-v2 on ONNX Runtime."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.minilm.architecture import DIMENSIONS, GRAPH_FILE, PACKAGED_MODEL
from models.minilm.batches import plan_batches

if TYPE_CHECKING:
    from models.minilm.network import Network
    from models.minilm.tokens import WordPieces


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How much of the machine a run may take.

    threads: that work on one run.
    max_padded_tokens: of one run. A core is busy from some 256 on; more only
        takes memory, about 40 KB a token, and keeps others waiting for longer.
    gpu: whether to run there, where this ONNX Runtime can.
    """

    threads: int = 2
    max_padded_tokens: int = 512
    gpu: bool = False


class MiniLmEmbedder:
    """Turns texts into vectors. Safe to use from several threads.

    Cheap to make and to import: weights and runtime are loaded at the first use,
    or by `load`, which takes some 0.3 seconds and 50 MB beside the libraries.
    """

    def __init__(
        self, directory: Path = PACKAGED_MODEL, options: RunOptions = RunOptions()
    ) -> None:
        """`directory` holds what `export_onnx` writes."""
        self._directory: Final = directory
        self._options: Final = options
        self._loading: Final = threading.Lock()
        self._loaded: tuple[WordPieces, Network] | None = None

    def load(self) -> None:
        """Loads the model if it is not loaded yet; FileNotFoundError where it is not."""
        self._model()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[len(texts), 384]`, in the order of `texts`.

        A vector depends on its text alone, up to rounding (cosine over 0.999999),
        whatever else is in the call. Text beyond 256 word pieces is cut off; the
        empty text has a vector too. Raises InvalidText.
        """
        pieces, network = self._model()
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        tokens = pieces.encode(texts)
        lengths = [len(ids) for ids in tokens]
        for batch in plan_batches(lengths, self._options.max_padded_tokens):
            vectors[batch] = network.run([tokens[index] for index in batch])
        return vectors

    def _model(self) -> "tuple[WordPieces, Network]":
        loaded = self._loaded
        if loaded is None:
            with self._loading:
                loaded = self._loaded or self._load()
                self._loaded = loaded
        return loaded

    def _load(self) -> "tuple[WordPieces, Network]":
        graph = self._directory / GRAPH_FILE
        if not graph.is_file():
            raise FileNotFoundError(f"{graph}: no such model; export_onnx writes it")
        # Here, so that programs which never embed do not pay for the libraries.
        from models.minilm.network import Network
        from models.minilm.tokens import WordPieces

        network = Network(self._directory, self._options.threads, gpu=self._options.gpu)
        return WordPieces(self._directory), network

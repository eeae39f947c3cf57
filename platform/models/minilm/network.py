"""The graph on ONNX Runtime: from token ids to vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.minilm.architecture import GRAPH_FILE
from models.onnx_session import open_session


class Network:
    """A loaded model. Safe to use from several threads."""

    def __init__(self, directory: Path, threads: int, *, gpu: bool = False) -> None:
        """`threads` work together on one run; `gpu` as open_session has it."""
        self._session: Final = open_session(directory / GRAPH_FILE, threads=threads, gpu=gpu)

    def run(self, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Unit vectors `[len(tokens), 384]` of texts, all padded to the longest."""
        shape = (len(tokens), max(map(len, tokens)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors

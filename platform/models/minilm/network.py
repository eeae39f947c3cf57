"""The graph on ONNX Runtime: from token ids to vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.minilm.architecture import GRAPH_FILE

# Its types are incomplete.
_runtime: Final = cast(Any, onnxruntime)


class Network:
    """A loaded model. Safe to use from several threads."""

    def __init__(self, directory: Path, threads: int) -> None:
        """`threads` work together on one run."""
        options = _runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait for the next run must not burn a core meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Final = _runtime.InferenceSession(
            directory / GRAPH_FILE, options, providers=["CPUExecutionProvider"]
        )

    def run(self, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Unit vectors `[len(tokens), 384]` of texts, all padded to the longest."""
        shape = (len(tokens), max(map(len, tokens)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors

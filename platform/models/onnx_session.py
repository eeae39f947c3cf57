"""Opens a graph on ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import onnxruntime

# Its types are incomplete.
_runtime: Final = cast(Any, onnxruntime)


def open_session(graph: Path, *, threads: int, gpu: bool = False) -> Any:
    """The loaded graph, which may be run from several threads.

    `threads` work together on one run. With `gpu` it runs there if this ONNX Runtime can.
    """
    options = _runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for the next run must not burn a core meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = cast(Sequence[str], _runtime.get_available_providers())
    return _runtime.InferenceSession(graph, options, providers=providers(available, gpu=gpu))


def providers(available: Sequence[str], *, gpu: bool) -> list[str]:
    """What to run on, the preferred first."""
    wanted = ["CUDAExecutionProvider"] if gpu else []
    return [each for each in (*wanted, "CPUExecutionProvider") if each in available]

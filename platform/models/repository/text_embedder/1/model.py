"""Triton's side of the embedder: tensors in and out, the rest is `models.minilm`.

Beside this file stand, in an assembled repository (`models.triton_repository`),
the code as `models/` and the weights as `minilm/`. Triton puts this folder on the
module path.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from models.minilm.embedder import MiniLmEmbedder, RunOptions
from models.triton_texts import embed_requests

# Exists inside Triton's process only, and has no types.
_triton: Final[Any] = importlib.import_module("triton_python_backend_utils")


class TritonPythonModel:
    """What the Python backend looks for; one an instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the weights: the server is ready only when a call would be quick."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = RunOptions(
            threads=int(parameters["threads"]["string_value"]),
            gpu=args["model_instance_kind"] == "GPU",
        )
        self._embedder = MiniLmEmbedder(Path(__file__).parent / "minilm", options)
        self._embedder.load()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Embeds the texts of all requests in one go; a bad request fails alone."""
        return embed_requests(_triton, self._embedder.embed, requests)

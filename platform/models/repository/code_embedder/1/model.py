"""Triton's side of the code embedder: tensors in and out, the rest is `models.onnx_embedder`.

Beside this file stand, in an assembled repository (`models.triton_repository`), the code as
`models/` and the model as `model/`. Triton puts this folder on the module path.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from models.onnx_embedder import OnnxEmbedder
from models.triton_texts import embed_requests

# Exists inside Triton's process only, and has no types.
_triton: Final[Any] = importlib.import_module("triton_python_backend_utils")


class TritonPythonModel:
    """What the Python backend looks for; one an instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the model: the server is ready only when a call would be quick."""
        parameters = json.loads(args["model_config"])["parameters"]
        self._embedder = OnnxEmbedder(
            Path(__file__).parent / "model",
            threads=int(parameters["threads"]["string_value"]),
            max_tokens=int(parameters["max_tokens"]["string_value"]),
            gpu=args["model_instance_kind"] == "GPU",
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Embeds the texts of all requests in one go; a bad request fails alone."""
        return embed_requests(_triton, self._embedder.embed, requests)

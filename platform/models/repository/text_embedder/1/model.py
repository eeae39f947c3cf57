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
from models.minilm.texts import InvalidText

# Exists inside Triton's process only, and has no types.
_triton: Final[Any] = importlib.import_module("triton_python_backend_utils")


class TritonPythonModel:
    """What the Python backend looks for; one an instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the weights: the server is ready only when a call would be quick."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = RunOptions(threads=int(parameters["threads"]["string_value"]))
        self._embedder = MiniLmEmbedder(Path(__file__).parent / "minilm", options)
        self._embedder.load()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Embeds the texts of all requests in one go; a bad request fails alone."""
        texts_of = [_texts(request) for request in requests]
        texts = [text for found in texts_of if isinstance(found, list) for text in found]
        vectors = self._embedder.embed(texts)
        responses: list[Any] = []
        start = 0
        for found in texts_of:
            if isinstance(found, InvalidText):
                error = _triton.TritonError(str(found), _triton.TritonError.INVALID_ARG)
                responses.append(_triton.InferenceResponse(error=error))
                continue
            end = start + len(found)
            tensor = _triton.Tensor("EMBEDDING", vectors[start:end])
            responses.append(_triton.InferenceResponse([tensor]))
            start = end
        return responses


def _texts(request: Any) -> list[str] | InvalidText:
    """The texts of `request`, or what is wrong with the first that is not UTF-8."""
    encoded = _triton.get_input_tensor_by_name(request, "TEXT").as_numpy()
    texts: list[str] = []
    for index, value in enumerate(encoded.ravel()):
        try:
            texts.append(value.decode())
        except UnicodeDecodeError as error:
            return InvalidText(index, f"byte {error.start} is not valid UTF-8")
    return texts

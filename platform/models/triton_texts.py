"""What Triton's embedders share: texts out of requests, vectors into responses."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.minilm.texts import InvalidText


def embed_requests(
    triton: Any, embed: Callable[[Sequence[str]], NDArray[np.float32]], requests: Sequence[Any]
) -> list[Any]:
    """Embeds the texts of all requests in one go; a bad request fails alone.

    `triton` is the module that exists inside Triton's process only.
    """
    texts_of = [_texts(triton, request) for request in requests]
    texts = [text for found in texts_of if isinstance(found, list) for text in found]
    vectors = embed(texts) if texts else np.empty((0, 0), np.float32)
    responses: list[Any] = []
    start = 0
    for found in texts_of:
        if isinstance(found, InvalidText):
            error = triton.TritonError(str(found), triton.TritonError.INVALID_ARG)
            responses.append(triton.InferenceResponse(error=error))
            continue
        end = start + len(found)
        tensor = triton.Tensor("EMBEDDING", vectors[start:end])
        responses.append(triton.InferenceResponse([tensor]))
        start = end
    return responses


def _texts(triton: Any, request: Any) -> list[str] | InvalidText:
    """The texts of `request`, or what is wrong with the first that is not UTF-8."""
    encoded = triton.get_input_tensor_by_name(request, "TEXT").as_numpy()
    texts: list[str] = []
    for index, value in enumerate(encoded.ravel()):
        try:
            texts.append(value.decode())
        except UnicodeDecodeError as error:
            return InvalidText(index, f"byte {error.start} is not valid UTF-8")
    return texts

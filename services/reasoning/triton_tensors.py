"""The tensors of Triton's vLLM backend: what a request is made of, and what an answer holds."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from tritonclient.grpc.aio import InferInput

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.chat_text import Chat, write_chat
from services.reasoning.generation import Prompt

# vLLM's word for a piece after which more comes.
_NOT_ENDED = ("", "None")


class NotTensors(ValueError):
    """An answer is not what the backend sends, or a prompt nothing that it takes; says how."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer."""

    text: str
    # `stop`, `length` or another word of vLLM's; empty where more comes.
    finish_reason: str
    # None where the server does not count.
    input_tokens: int | None
    output_tokens: int | None


def request_tensors(prompt: Prompt, *, streamed: bool, max_tokens: int) -> list[InferInput]:
    """The inputs that ask for an answer to `prompt` of at most `max_tokens`.

    Raises NotTensors for an image that is not given as bytes.
    """
    text = write_chat(Chat(prompt.messages, prompt.tools))
    tensors = [
        _strings("text_input", [text]),
        _strings("sampling_parameters", [json.dumps(_sampling(prompt, max_tokens))]),
        _flag("stream", streamed),
        _flag("exclude_input_in_output", True),
        _flag("return_finish_reason", True),
        _flag("return_num_input_tokens", True),
        _flag("return_num_output_tokens", True),
    ]
    images = [
        _base64(part.image)
        for message in prompt.messages
        for part in message.parts
        if part.HasField("image")
    ]
    return [*tensors, _strings("image", images)] if images else tensors


def read_piece(result: Any) -> Piece:
    """What a response holds. Raises NotTensors."""
    texts = result.as_numpy("text_output")
    if texts is None or texts.size != 1:
        raise NotTensors("has not one text_output")
    try:
        text = cast(bytes, texts.ravel()[0]).decode()
    except (UnicodeDecodeError, AttributeError) as error:
        raise NotTensors("has a text_output that is no text") from error
    reasons = result.as_numpy("finish_reason")
    reason = "" if reasons is None or not reasons.size else str(reasons.ravel()[0], "utf-8")
    return Piece(
        text=text,
        finish_reason="" if reason in _NOT_ENDED else reason,
        input_tokens=_count(result.as_numpy("num_input_tokens")),
        output_tokens=_count(result.as_numpy("num_output_tokens")),
    )


def _sampling(prompt: Prompt, max_tokens: int) -> dict[str, Any]:
    # Left out, vLLM would stop after 16 tokens.
    sampling: dict[str, Any] = {"max_tokens": max_tokens}
    if prompt.temperature is not None:
        sampling["temperature"] = prompt.temperature
    if prompt.seed is not None:
        sampling["seed"] = prompt.seed
    if prompt.stop:
        # Included, since otherwise nobody could tell whether one of them ended the answer.
        sampling |= {"stop": list(prompt.stop), "include_stop_str_in_output": True}
    # A model that is held to a schema could call no tool.
    if prompt.output_schema and not prompt.tools:
        sampling["structured_outputs"] = json.dumps({"json": json.loads(prompt.output_schema)})
    return sampling


def _base64(image: conversation_pb2.Image) -> str:
    if image.WhichOneof("source") != "data":
        raise NotTensors("takes images as bytes, not by their addresses")
    return base64.b64encode(image.data).decode()


def _strings(name: str, values: Sequence[str]) -> InferInput:
    encoded = np.array([value.encode() for value in values], np.object_)
    return _input(name, "BYTES", encoded)


def _flag(name: str, value: bool) -> InferInput:
    return _input(name, "BOOL", np.array([value], np.bool_))


def _input(name: str, kind: str, values: Any) -> InferInput:
    # Any: the package has no types.
    tensor = cast(Any, InferInput(name, [len(values)], kind))
    tensor.set_data_from_numpy(values)
    return tensor


def _count(values: Any) -> int | None:
    return None if values is None or not values.size else int(values.ravel()[0])

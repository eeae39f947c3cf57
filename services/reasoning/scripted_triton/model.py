"""Test-only: answers each request as its parameter `script` says, inside a real Triton.

When a client goes away, the socket that the script names is told so.
"""

import importlib
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final

import numpy as np

# Exists inside Triton's process only, and has no types.
_triton: Final[Any] = importlib.import_module("triton_python_backend_utils")
_LOOK_SECONDS: Final = 0.02


class TritonPythonModel:
    """What the Python backend looks for."""

    def execute(self, requests: Sequence[Any]) -> None:
        """Has each request answered by a thread of its own."""
        for request in requests:
            threading.Thread(target=_answer, args=(request,), daemon=True).start()


class _Left(Exception):
    """The client went away."""


def _answer(request: Any) -> None:
    script = json.loads(json.loads(request.parameters())["script"])
    sender = request.get_response_sender()
    try:
        _play(script, sender)
    except _Left:
        report = json.dumps({"request": script["request"]})
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(report.encode(), script["report_to"])
        _send(sender, error=_triton.TritonError("Request was cancelled"), final=True)


def _play(script: Mapping[str, Any], sender: Any) -> None:
    _wait(sender, script["delay_seconds"])
    if script["error"]:
        code, text = script["error"]
        error = _triton.TritonError(text, getattr(_triton.TritonError, code))
        _send(sender, error=error, final=True)
        return
    more = repeat(script["more"]) if script["more"] else ()
    for number, piece in enumerate(chain(script["pieces"], more)):
        if number:
            _wait(sender, script["pause_seconds"])
        if number == script["hang_after"]:
            break
        _look(sender)
        _send(sender, tensors=_tensors(piece))
    if script["hang_after"] is not None:
        _wait(sender, 60.0)
    sender.send(flags=_triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _tensors(piece: Mapping[str, Any]) -> list[Any]:
    tensors = [_triton.Tensor("text_output", np.array([piece["text"].encode()], np.object_))]
    if "finish_reason" in piece:
        reason = np.array([piece["finish_reason"].encode()], np.object_)
        tensors.append(_triton.Tensor("finish_reason", reason))
    counts = [name for name in ("num_input_tokens", "num_output_tokens") if name in piece]
    tensors += [_triton.Tensor(name, np.array([piece[name]], np.uint32)) for name in counts]
    return tensors


def _wait(sender: Any, seconds: float) -> None:
    """A pause that the script asks for, in a thread of the model's own."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        _look(sender)
        time.sleep(min(left, _LOOK_SECONDS))


def _look(sender: Any) -> None:
    if sender.is_cancelled():
        raise _Left


def _send(
    sender: Any, *, tensors: Sequence[Any] = (), error: Any = None, final: bool = False
) -> None:
    response = _triton.InferenceResponse(output_tensors=list(tensors), error=error)
    sender.send(response, flags=_triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)

"""Triton's side of text generation: tensors in and out, as vLLM's backend has them.

What is written is decided in `models.text_generation`. Beside this file stands, in an
assembled repository (`models.triton_repository`), the code that it imports. Triton puts
this folder on the module path.
"""

import importlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from models.text_generation import BadRequest, TextGeneration, Written

# Exists inside Triton's process only, and has no types.
_triton: Final[Any] = importlib.import_module("triton_python_backend_utils")
# How often a pause looks whether anybody still waits, in seconds.
_LOOK_SECONDS: Final = 0.05
_BUCKETS_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class TritonPythonModel:
    """What the Python backend looks for; one an instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Reads the parameters and makes the model."""
        parameters = json.loads(args["model_config"])["parameters"]
        at_a_time = int(parameters["answers_at_a_time"]["string_value"])
        self._pause_seconds = int(parameters["milliseconds_a_piece"]["string_value"]) / 1000
        self._model = TextGeneration()
        self._latencies = _Latencies(args)
        self._places = threading.Semaphore(at_a_time)
        self._threads = ThreadPoolExecutor(at_a_time)
        self._ending = threading.Event()

    def execute(self, requests: Sequence[Any]) -> None:
        """Has each request answered by a thread, and waits while none is free."""
        for request in requests:
            self._places.acquire()
            self._threads.submit(self._answer, request)

    def finalize(self) -> None:
        """Lets the answers that are being written come to their end, without pauses."""
        self._ending.set()
        self._threads.shutdown()

    def _answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        begun = time.monotonic()
        try:
            self._write(_Asked(request), sender)
        except BadRequest as error:
            _fail(sender, str(error), _triton.TritonError.INVALID_ARG)
        except Exception as error:
            # It must not take the others' answers along.
            _fail(sender, f"Error generating stream: {error!r}", _triton.TritonError.INTERNAL)
        finally:
            self._places.release()
            self._latencies.observe(time.monotonic() - begun)

    def _write(self, asked: "_Asked", sender: Any) -> None:
        written = self._model.write(asked.text, asked.parameters)
        last = len(written.pieces) - 1
        for index in range(last + 1):
            if sender.is_cancelled() or not self._paused(sender):
                _fail(sender, "Request was cancelled", _triton.TritonError.CANCELLED)
                return
            if asked.streamed:
                sender.send(asked.response(written, index, index), flags=_flags(index == last))
        if not asked.streamed:
            sender.send(asked.response(written, 0, last), flags=_flags(True))

    def _paused(self, sender: Any) -> bool:
        """Waits for the next piece; False where the client left meanwhile."""
        left = self._pause_seconds
        while left > 0 and not self._ending.wait(min(left, _LOOK_SECONDS)):
            left -= _LOOK_SECONDS
            if sender.is_cancelled():
                return False
        return True


class _Latencies:
    """How long answers take, under vLLM's name; nothing where nobody reads metrics."""

    def __init__(self, args: Mapping[str, str]) -> None:
        self._metric: Any = None
        self._lock = threading.Lock()
        try:
            # Kept, since it must not go before its metric.
            self._family = _triton.MetricFamily(
                name="vllm:e2e_request_latency_seconds",
                description="How long answers take, in seconds.",
                kind=_triton.MetricFamily.HISTOGRAM,
            )
        except _triton.TritonModelException as error:
            if "metrics not supported" not in str(error):
                raise
            return
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self._metric = self._family.Metric(labels=labels, buckets=list(_BUCKETS_SECONDS))

    def observe(self, seconds: float) -> None:
        """Counts an answer."""
        if self._metric is not None:
            # Two at once bring Triton 2.51 down.
            with self._lock:
                self._metric.observe(seconds)


class _Asked:
    """What a request asks for. Raises BadRequest."""

    def __init__(self, request: Any) -> None:
        self.text: Final = _text(request, "text_input")
        self.parameters: Final = _text(request, "sampling_parameters")
        self.streamed: Final = _flag(request, "stream", absent=False)
        self._prompt_first: Final = not _flag(
            request, "exclude_input_in_output", absent=self.streamed
        )
        if self.streamed and self._prompt_first:
            raise BadRequest("When streaming, `exclude_input_in_output` = False is not allowed.")
        self._reason: Final = _flag(request, "return_finish_reason", absent=False)
        self._input: Final = _flag(request, "return_num_input_tokens", absent=False)
        self._output: Final = _flag(request, "return_num_output_tokens", absent=False)

    def response(self, written: Written, first: int, last: int) -> Any:
        """The pieces from `first` to `last` as one response."""
        said = "".join(written.pieces[first : last + 1])
        tensors = [_strings("text_output", (self.text if self._prompt_first else "") + said)]
        if self._reason:
            ended = last == len(written.pieces) - 1
            tensors.append(_strings("finish_reason", written.finish_reason if ended else "None"))
        if self._input:
            tensors.append(_count("num_input_tokens", written.input_tokens))
        if self._output:
            produced = sum(written.output_tokens[first : last + 1])
            tensors.append(_count("num_output_tokens", produced))
        return _triton.InferenceResponse(tensors)


def _text(request: Any, name: str) -> str:
    tensor = _triton.get_input_tensor_by_name(request, name)
    if tensor is None:
        return ""
    try:
        return tensor.as_numpy().ravel()[0].decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name}: byte {error.start} is not valid UTF-8") from error


def _flag(request: Any, name: str, *, absent: bool) -> bool:
    tensor = _triton.get_input_tensor_by_name(request, name)
    return absent if tensor is None else bool(tensor.as_numpy().ravel()[0])


def _strings(name: str, value: str) -> Any:
    return _triton.Tensor(name, np.array([value.encode()], np.object_))


def _count(name: str, value: int) -> Any:
    return _triton.Tensor(name, np.array([value], np.uint32))


def _flags(final: bool) -> int:
    return _triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0


def _fail(sender: Any, text: str, code: Any) -> None:
    error = _triton.TritonError(text, code)
    sender.send(_triton.InferenceResponse(error=error), flags=_flags(True))

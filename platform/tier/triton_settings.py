"""The settings of the Tritons that a mesh on one machine starts."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from meshkit.service import Section

_ModelName = Literal["text_embedder", "code_embedder", "text_generation"]


class TritonSettings(Section):
    """Which models they serve, and on what. Read where TRITON_SERVER names a Triton."""

    # Servers with the same models. Several are called through an Envoy that knows how busy
    # each is.
    servers: int = Field(default=1, ge=1, le=8)
    # On what models run: on a GPU where the machine has one, or as said.
    device: Literal["auto", "cpu", "gpu"] = "auto"
    # Copies of a model in each server, 1 where it is not here; on GPUs, for each GPU.
    instances: dict[_ModelName, Annotated[int, Field(ge=1, le=16)]] = Field(
        default_factory=dict[_ModelName, int]
    )
    # The folder with model.onnx and tokenizer.json of an embedder of code; None for none.
    code_embedder: Path | None = None

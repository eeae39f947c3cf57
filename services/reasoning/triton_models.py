"""What the Triton of the mesh serves beside the embeddings of text."""

from collections.abc import Sequence
from typing import Final

from services.reasoning.model import Kind, ModelSpec
from services.reasoning.model_settings import ModelSettings

TEXT_GENERATION: Final = "text-generation"
CODE_EMBEDDER: Final = "code-embedder"


def triton_generators(served: Sequence[str], target: str) -> dict[str, ModelSettings]:
    """The settings of the text models among `served`, by their names in the mesh."""
    if "text_generation" not in served:
        return {}
    settings = ModelSettings(
        provider="triton",
        model="text_generation",
        address=target,
        description="The offline model unless its repository was changed.",
    )
    return {TEXT_GENERATION: settings}


def code_embedder(served: Sequence[str]) -> ModelSpec:
    """The embedder of code; without a model of its own, a slot that is listed and empty."""
    loaded = "code_embedder" in served
    return ModelSpec(
        name=CODE_EMBEDDER,
        provider="triton",
        kind=Kind.EMBEDDER,
        context_tokens=512,
        description=(
            "Unit vectors of source code, by the model that triton.code_embedder names."
            if loaded
            else "Not configured: triton.code_embedder names no folder with a model."
        ),
        callable=loaded,
    )

"""How long an answer may be."""

from services.reasoning.generation import Prompt
from services.reasoning.model import ModelSpec
from services.reasoning.token_estimate import prompt_tokens


def most_output_tokens(prompt: Prompt, spec: ModelSpec) -> int:
    """The most tokens that the answer may have: what is asked for and what the model has room for.

    Servers refuse requests that could outgrow a model's context.
    """
    if prompt.max_output_tokens:
        return min(prompt.max_output_tokens, spec.max_output_tokens)
    room = spec.context_tokens - prompt_tokens(prompt.messages, prompt.tools)
    return max(1, min(spec.max_output_tokens, room))

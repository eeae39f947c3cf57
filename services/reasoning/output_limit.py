"""How long an answer may be."""

from dataclasses import replace

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


def no_longer(prompt: Prompt, spec: ModelSpec, most_tokens: int) -> Prompt:
    """`prompt` for an answer of so many tokens at most."""
    if most_output_tokens(prompt, spec) <= most_tokens:
        return prompt
    return replace(prompt, max_output_tokens=most_tokens)

"""Test-only: prompts of one sentence, and the text of what answers them."""

from typing import Any

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from services.reasoning.generation import Completion, Prompt


def said(text: str, role: Any = ROLE_USER) -> Message:
    """A message of a user's, if of nobody else's."""
    return Message(role=role, parts=[Part(text=text)])


def prompt_of(text: str = "Hello", **more: object) -> Prompt:
    """A user's sentence, without tools if none are given."""
    return Prompt([said(text)], **{"tools": (), **more})  # type: ignore[arg-type]


def text_of(completion: Completion) -> str:
    """All that it says."""
    return "".join(part.text for part in completion.message.parts)

"""Tokens where nobody counts them."""

import pytest

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Image, Message, Part
from services.reasoning.generation import Prompt
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.output_limit import most_output_tokens
from services.reasoning.token_estimate import (
    MOST_IMAGE_TOKENS,
    bytes_tokens,
    prompt_tokens,
    text_tokens,
)

_LARGE = Image(media_type="image/png", data=b"x" * 1_500_000)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("\u00e4bcd", 2)])
def test_four_bytes_of_text_are_a_token(text: str, tokens: int) -> None:
    """A part of one counts as one."""
    assert text_tokens(text) == tokens


def _seen(*images: Image) -> Message:
    parts = [Part(text="What do you see?"), *(Part(image=each) for each in images)]
    return Message(role=ROLE_USER, parts=parts)


def test_an_image_counts_for_no_more_than_a_large_one() -> None:
    """No provider counts bytes: a photograph would have a conversation of its own."""
    said = prompt_tokens([_seen()], ())
    for images in ([_LARGE], [_LARGE, _LARGE]):
        tokens = prompt_tokens([_seen(*images), _seen()], ()) - len(images) * MOST_IMAGE_TOKENS
        assert 2 * said <= tokens < 2 * said + 10


def test_other_messages_count_by_their_bytes() -> None:
    """However long they are."""
    long = Message(role=ROLE_USER, parts=[Part(text="word " * 10_000)])
    small = _seen(Image(media_type="image/png", data=b"x" * 400))
    for message in (long, small):
        assert prompt_tokens([message], ()) == bytes_tokens(message.ByteSize())


def test_an_image_leaves_room_for_the_answer() -> None:
    """As much as the model may say."""
    spec = ModelSpec("m", "openai", Kind.GENERATOR, 128_000, "A model.", max_output_tokens=8192)
    assert most_output_tokens(Prompt([_seen(_LARGE)], ()), spec) == 8192

"""API keys as text."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.api_key import ApiKeyText, MalformedApiKey

_IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=40)


@given(key_id=_IDS, random=st.binary(min_size=32, max_size=32))
def test_reads_what_it_writes(key_id: str, random: bytes) -> None:
    """A key that is made is read back as it was, whatever the secret's characters are."""
    made = ApiKeyText.make(key_id, lambda size: random[:size])

    assert ApiKeyText.parse(made.text) == made
    assert made.has_digest(made.digest)


@given(st.text(max_size=100))
def test_takes_nothing_else(text: str) -> None:
    """What is read is written the same; all else is malformed, and is not said again."""
    try:
        read = ApiKeyText.parse(text)
    except MalformedApiKey as error:
        said = str(error)
    else:
        said = ""
        assert read.text == text

    assert said in (
        "",
        "An API key is amk_, an id of lower-case letters and digits, _ and 43 more characters,"
        " all without blanks.",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "amk_",
        "amk_abcdefgh_" + "x" * 42,
        "amk_abcdefgh_" + "x" * 44,
        "amk_Abcdefgh_" + "x" * 43,
        "amk_abcdefgh_" + "x" * 43 + "\n",
        " amk_abcdefgh_" + "x" * 43,
        "amk_abcdefgh_" + "x" * 43 + ",amk_abcdefgh_" + "x" * 43,
        "AMK_abcdefgh_" + "x" * 43,
    ],
)
def test_is_strict(text: str) -> None:
    """Too short, too long, another case, blanks around, or two of them: malformed."""
    with pytest.raises(MalformedApiKey):
        ApiKeyText.parse(text)


def test_keeps_the_secret_from_logs() -> None:
    """What a program prints of a key has no secret in it."""
    key = ApiKeyText.make("abcdefgh")

    assert key.secret not in repr(key)
    assert key.secret not in str(key)


def test_keeps_a_hash() -> None:
    """The digest is the SHA-256 of the secret's text, and no other key has it."""
    key = ApiKeyText("abcdefgh", "s" * 43)

    assert key.digest == hashlib.sha256(b"s" * 43).digest()
    assert key.ending == "ssss"
    assert not ApiKeyText("abcdefgh", "s" * 42 + "t").has_digest(key.digest)


def test_is_random() -> None:
    """Two keys of one id differ in 256 random bits."""
    assert ApiKeyText.make("abcdefgh").secret != ApiKeyText.make("abcdefgh").secret

"""Words meet where they mean the same."""

import pytest

from services.reasoning.offline.words import content_words, stem, stems, words


def test_words_are_split_at_everything_that_is_no_letter_or_digit() -> None:
    """Identifiers fall into their words, and possessives lose their ending."""
    assert words("The gateway's rate_limit, rate-limit (429)!") == [
        "the", "gateway", "rate", "limit", "rate", "limit", "429",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "forms",
    [
        "limit limits limited limiting",
        "mention mentions mentioned mentioning",
        "retry retries",
        "cache caches cached caching",
        "stop stops stopped stopping",
        "box boxes",
        "policy policies",
        "expire expires expired expiring",
    ],
)
def test_forms_of_a_word_have_one_stem(forms: str) -> None:
    """Number and tense make no difference."""
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize("word", ["redis", "status", "class", "ring", "bed", "is", "bus"])
def test_short_and_foreign_words_stay_themselves(word: str) -> None:
    """What only looks like an ending is left."""
    assert stem(word) == word


def test_content_words_are_what_a_question_is_about() -> None:
    """Words that only ask are left out; each word comes once."""
    assert content_words("Which of our runbooks mentions the rate limits and rate caps?") == [
        "runbooks", "mentions", "rate", "limits", "caps",
    ]  # fmt: skip
    assert stems("Rate limits") == ["rat", "limit"]

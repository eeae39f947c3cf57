"""Which texts run together."""

from hypothesis import given
from hypothesis import strategies as st

from models.minilm.batches import MAX_PADDING_TOKENS, plan_batches

lengths_of_texts = st.lists(st.integers(min_value=2, max_value=256), max_size=200)
limits = st.integers(min_value=1, max_value=4096)


@given(lengths_of_texts, limits)
def test_every_text_runs_exactly_once(lengths: list[int], limit: int) -> None:
    """Each index is in one batch, and no batch is empty."""
    batches = plan_batches(lengths, limit)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batches)


@given(lengths_of_texts, limits)
def test_a_batch_of_several_texts_keeps_to_the_limit(lengths: list[int], limit: int) -> None:
    """Padded to the longest text, a batch has at most the limit's tokens."""
    for batch in plan_batches(lengths, limit):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) == 1 or padded <= limit


@given(lengths_of_texts, limits)
def test_no_text_is_padded_by_much(lengths: list[int], limit: int) -> None:
    """The texts of a batch are nearly of one length."""
    for batch in plan_batches(lengths, limit):
        found = [lengths[index] for index in batch]
        assert max(found) - min(found) <= MAX_PADDING_TOKENS


def test_short_texts_do_not_run_padded_to_a_long_one() -> None:
    """A long text among short ones runs alone."""
    assert plan_batches([5, 256, 5, 5], 512) == [[1], [0, 2, 3]]


def test_texts_of_the_same_length_fill_each_batch() -> None:
    """Five texts of 256 tokens make three runs of 512."""
    assert plan_batches([256] * 5, 512) == [[0, 1], [2, 3], [4]]

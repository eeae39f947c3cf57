"""Which texts run together, so that short ones do not pay for long ones."""

from collections.abc import Sequence
from typing import Final

# A run costs as much as some 20 tokens before it computes the first one: further
# apart than that, two runs are cheaper than the padding.
MAX_PADDING_TOKENS: Final = 16


def plan_batches(lengths: Sequence[int], max_padded_tokens: int) -> list[list[int]]:
    """Groups texts of `lengths` (in tokens) into batches of similar length.

    A batch is a list of indexes into `lengths`; every index is in exactly one.
    Padded to its longest text, a batch has at most `max_padded_tokens` tokens,
    unless it is a single text, and none of it is padded by more than 16.
    """
    batches: list[list[int]] = []
    width = 0
    # Longest first: the first text of a batch is the one that sets its width.
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        near = width - lengths[index] <= MAX_PADDING_TOKENS
        if batches and near and (len(batches[-1]) + 1) * width <= max_padded_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            width = lengths[index]
    return batches

"""From texts to token ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.minilm.architecture import MAX_TOKENS, TOKENIZER_FILE
from models.minilm.texts import check_texts

# Reading on would cost time for nothing: prose fills 256 word pieces with some
# 1,300 characters, and this many hold fewer only where words average over 64.
_MAX_CHARACTERS: Final = 16_384


class WordPieces:
    """The model's tokenizer. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer: Final = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
        # The file pads everything to 128 and cuts there.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)  # pyright: ignore[reportUnknownMemberType]: bare kwargs

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of each text, 2 to 256 of them, the special ones included.

        Raises InvalidText.
        """
        check_texts(texts)
        heads = [text[:_MAX_CHARACTERS] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(heads)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]

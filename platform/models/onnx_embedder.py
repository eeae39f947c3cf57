"""Embeddings by any sentence encoder that was exported to ONNX, with its tokenizer.

Its graph takes `input_ids` and `attention_mask`, and `token_type_ids` where it wants them. It
gives vectors of texts `[n, d]`, or of tokens `[n, t, d]`, which are averaged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.minilm.architecture import GRAPH_FILE, TOKENIZER_FILE
from models.minilm.batches import plan_batches
from models.minilm.texts import check_texts
from models.onnx_session import open_session

# Of one run: more only takes memory, and keeps others waiting.
_MAX_PADDED_TOKENS: Final = 2048
_CHARACTERS_PER_TOKEN: Final = 64


class OnnxEmbedder:
    """A loaded model. Safe to use from several threads."""

    def __init__(self, directory: Path, *, threads: int, max_tokens: int, gpu: bool) -> None:
        """Loads it.

        Args:
            directory: Holds `model.onnx` and `tokenizer.json`.
            threads: That work together on one run.
            max_tokens: Of a text; what is beyond is cut off.
            gpu: Whether to use one, where this ONNX Runtime can.
        """
        self._session: Final = open_session(directory / GRAPH_FILE, threads=threads, gpu=gpu)
        self._inputs: Final = frozenset(each.name for each in self._session.get_inputs())
        self._tokenizer: Final = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)  # pyright: ignore[reportUnknownMemberType]: bare kwargs
        self._max_characters: Final = max_tokens * _CHARACTERS_PER_TOKEN

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, in the order of `texts`, of which there must be one. Raises InvalidText."""
        check_texts(texts)
        heads = [text[: self._max_characters] for text in texts]
        tokens = [each.ids for each in self._tokenizer.encode_batch_fast(heads)]
        vectors: dict[int, NDArray[np.float32]] = {}
        for batch in plan_batches([len(ids) for ids in tokens], _MAX_PADDED_TOKENS):
            vectors |= zip(batch, self._run([tokens[index] for index in batch]), strict=True)
        return np.stack([vectors[index] for index in range(len(texts))])

    def _run(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        # A text without any token is all padding.
        shape = (len(tokens), max(1, *map(len, tokens)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        if output.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            output = (output * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
        lengths = np.linalg.norm(output, axis=1, keepdims=True)
        return (output / np.maximum(lengths, 1e-12)).astype(np.float32)

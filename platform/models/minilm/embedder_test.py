"""The embedder, on the real model."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.minilm.embedder import MiniLmEmbedder
from models.minilm.reference import MIN_COSINE, cosines, reference, require_model
from models.minilm.texts import InvalidText


@pytest.fixture(scope="module")
def embedder() -> MiniLmEmbedder:
    """The embedder of the built model."""
    require_model()
    return MiniLmEmbedder()


def test_one_batch_gives_the_reference_vectors(embedder: MiniLmEmbedder) -> None:
    """Texts of all lengths together have the vectors of the reference runtime."""
    expected = reference()
    assert cosines(embedder.embed(expected.texts), expected.vectors).min() > MIN_COSINE


def test_single_texts_give_the_reference_vectors(embedder: MiniLmEmbedder) -> None:
    """Each text alone has the vector of the reference runtime."""
    expected = reference()
    vectors = np.concatenate([embedder.embed([text]) for text in expected.texts])
    assert cosines(vectors, expected.vectors).min() > MIN_COSINE


def test_no_texts_give_no_vectors(embedder: MiniLmEmbedder) -> None:
    """An empty call has an empty answer of the right width."""
    assert embedder.embed([]).shape == (0, 384)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=10), max_size=8))
def test_the_order_is_kept(embedder: MiniLmEmbedder, chosen: list[int]) -> None:
    """Whatever texts come together in whatever order, each gets its own vector."""
    expected = reference()
    vectors = embedder.embed([expected.texts[index] for index in chosen])
    assert vectors.shape == (len(chosen), 384)
    assert np.all(cosines(vectors, expected.vectors[chosen]) > MIN_COSINE)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400))
@example("\0\a\x1b[31m\x7f\u200b\ufeff\u202e")
@example("\U0010ffff\ue000")
@example("e\u0301" * 50)
@example("\t\r\n \u00a0\u3000")
def test_any_unicode_text_has_a_unit_vector(embedder: MiniLmEmbedder, text: str) -> None:
    """Control characters, unassigned ones and combining marks are texts like others."""
    (vector,) = embedder.embed([text])
    assert np.all(np.isfinite(vector))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", ["\ud800", "fine until \udfff", "\udc00\ud800"])
def test_a_lone_surrogate_is_refused(embedder: MiniLmEmbedder, text: str) -> None:
    """The error names the text and the character."""
    with pytest.raises(InvalidText) as raised:
        embedder.embed(["good", text])
    at = 11 if text.startswith("fine") else 0
    assert str(raised.value) == f"texts[1]: has a lone surrogate at character {at}"


def test_text_beyond_256_word_pieces_does_not_count(embedder: MiniLmEmbedder) -> None:
    """254 words, and the two special tokens, fill the model."""
    full = "word " * 254
    same = embedder.embed([full, full + "different " * 100])
    other = embedder.embed(["word " * 253, "word " * 253 + "different"])
    assert cosines(same[:1], same[1:])[0] == pytest.approx(1, abs=1e-6)
    assert cosines(other[:1], other[1:])[0] < MIN_COSINE


def test_a_huge_text_costs_no_more_than_a_long_one(embedder: MiniLmEmbedder) -> None:
    """Ten million characters have the vector of their beginning."""
    huge, long = embedder.embed(["word " * 2_000_000, "word " * 300])
    assert float(huge @ long) == pytest.approx(1, abs=1e-6)


def test_threads_may_share_it() -> None:
    """Calls from several threads, the first ones among them, get their own answers."""
    require_model()
    embedder, expected = MiniLmEmbedder(), reference()
    numbers = [number % 10 for number in range(40)]
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(embedder.embed, [expected.texts[number]]) for number in numbers]
        vectors = np.concatenate([call.result() for call in calls])
    assert cosines(vectors, expected.vectors[numbers]).min() > MIN_COSINE


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    """The error says which file is missing and what writes it."""
    with pytest.raises(FileNotFoundError) as raised:
        MiniLmEmbedder(tmp_path).load()
    assert str(raised.value) == f"{tmp_path}/model.onnx: no such model; export_onnx writes it"


def test_programs_that_never_embed_do_not_pay() -> None:
    """Importing and making an embedder loads neither runtime nor tokenizer."""
    program = """
        import sys
        from models.minilm.embedder import MiniLmEmbedder
        MiniLmEmbedder()
        sys.exit(bool({"onnxruntime", "tokenizers"} & sys.modules.keys()))
    """
    path = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=path, check=True)

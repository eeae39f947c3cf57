"""The model repository that Triton is given."""

import subprocess
import sys
from pathlib import Path

import pytest

from models.minilm.reference import require_model
from models.triton_repository import (
    BadModelFolder,
    Device,
    RepositoryOptions,
    assemble,
    has_gpu,
)


@pytest.fixture(autouse=True)
def packaged_model() -> None:
    """Skips where the embedding model was not made."""
    require_model()


def _groups(repository: Path) -> dict[str, str]:
    """On what each model runs, by its name."""
    return {
        file.parent.name: next(
            line
            for line in file.read_text("utf-8").splitlines()
            if line.startswith("instance_group")
        )
        for file in sorted(repository.glob("*/config.pbtxt"))
    }


def _code_model(folder: Path) -> Path:
    folder.mkdir()
    for name in ("model.onnx", "model.onnx_data", "tokenizer.json"):
        (folder / name).write_bytes(b"")
    return folder


def test_the_embedder_stands_on_its_own(tmp_path: Path) -> None:
    """It has the configuration, the model, the code that it imports and the weights."""
    assemble(tmp_path)
    model = tmp_path / "text_embedder"
    files = sorted(str(path.relative_to(model)) for path in model.rglob("*.*"))
    assert files == [
        "1/minilm/model.onnx",
        "1/minilm/model.onnx.data",
        "1/minilm/tokenizer.json",
        "1/model.py",
        "1/models/minilm/architecture.py",
        "1/models/minilm/batches.py",
        "1/models/minilm/embedder.py",
        "1/models/minilm/network.py",
        "1/models/minilm/texts.py",
        "1/models/minilm/tokens.py",
        "1/models/onnx_session.py",
        "1/models/triton_texts.py",
        "config.pbtxt",
    ]


def test_text_generation_stands_on_its_own(tmp_path: Path) -> None:
    """Its code is imported and answers where nothing else of ours is to be found."""
    assemble(tmp_path)
    packages = [path for path in sys.path if "site-packages" in path]
    program = (
        "from models.text_generation import TextGeneration;"
        "print(TextGeneration().write('What is your name?', '').pieces[:2])"
    )
    told = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        cwd=tmp_path,
        env={
            "PYTHONPATH": ":".join([str(tmp_path / "text_generation" / "1"), *packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.stderr, told.stdout) == ("", "['I ', 'am ']\n")


def test_without_a_gpu_all_models_run_on_the_processor(tmp_path: Path) -> None:
    """The code embedder is not there unless a folder is named for it."""
    assemble(tmp_path, gpu=False)
    assert _groups(tmp_path) == {
        "text_embedder": "instance_group [ { count: 1, kind: KIND_CPU } ]",
        "text_generation": "instance_group [ { count: 1, kind: KIND_CPU } ]",
    }


def test_embedders_run_on_a_gpu_where_there_is_one(tmp_path: Path) -> None:
    """Each in as many copies as configured; the rules of text generation stay on the processor."""
    repository = tmp_path / "repository"
    options = RepositoryOptions(
        code_embedder=_code_model(tmp_path / "code"),
        instances={"text_embedder": 2, "text_generation": 3},
    )
    assemble(repository, options, gpu=True)
    assert _groups(repository) == {
        "code_embedder": "instance_group [ { count: 1, kind: KIND_GPU } ]",
        "text_embedder": "instance_group [ { count: 2, kind: KIND_GPU } ]",
        "text_generation": "instance_group [ { count: 3, kind: KIND_CPU } ]",
    }
    assert options.models == ("text_embedder", "code_embedder", "text_generation")


@pytest.mark.parametrize(
    ("device", "gpu", "kind"),
    [(Device.CPU, True, "KIND_CPU"), (Device.GPU, False, "KIND_GPU")],
)
def test_the_configuration_decides_on_the_device(
    tmp_path: Path, device: Device, gpu: bool, kind: str
) -> None:
    """Whatever the machine has."""
    assemble(tmp_path, RepositoryOptions(device=device), gpu=gpu)
    assert kind in _groups(tmp_path)["text_embedder"]


def test_a_gpu_is_seen_by_its_device(tmp_path: Path) -> None:
    """The kernel makes a file for each."""
    assert not has_gpu(tmp_path / "nvidia0")
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path / "nvidia0")


def test_weights_beside_the_code_embedders_graph_come_along(tmp_path: Path) -> None:
    """Under whatever name they were exported."""
    repository = tmp_path / "repository"
    assemble(repository, RepositoryOptions(code_embedder=_code_model(tmp_path / "code")))
    folder = repository / "code_embedder" / "1" / "model"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["model.onnx", "model.onnx_data", "tokenizer.json"]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """The error says what is missing."""
    folder = _code_model(tmp_path / "code")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadModelFolder) as raised:
        assemble(tmp_path / "repository", RepositoryOptions(code_embedder=folder))
    assert str(raised.value) == (
        f"code_embedder: {folder} has no tokenizer.json. Name a folder with both model.onnx and"
        " tokenizer.json, or leave the setting out"
    )

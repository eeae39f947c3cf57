"""The BUILD file of installed packages has whole folders and no circles."""

from pathlib import Path

import pytest

from third_party.python import generate_build


def install(root: Path, name: str, files: list[str], requires: list[str]) -> None:
    """Put a distribution into the folder, as pip would."""
    info = root / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(metadata) + "\n")
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def generate(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the generated text."""
    generate_build.main(str(root))
    return capsys.readouterr().out


def test_shared_folder_is_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that two distributions share is divided where they part."""
    install(tmp_path, "one", ["google/api/http.py", "google/api/sub/x.py"], [])
    install(tmp_path, "Two_2", ["google/rpc/code.py", "two.py", "bin/two"], [])
    text = generate(tmp_path, capsys)
    assert f'name = "one",\n    data = ["{tmp_path}/google/api"],' in text
    assert f'name = "two-2",\n    data = ["{tmp_path}/google/rpc", "{tmp_path}/two.py"],' in text


def test_what_is_compiled_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A module by itself has its bytecode in a folder that all such modules share."""
    for name in ("one", "two"):
        compiled = f"__pycache__/{name}.cpython-311.pyc"
        install(tmp_path, name, [f"{name}.py", compiled, f"in_{name}/{compiled}"], [])
    text = generate(tmp_path, capsys)
    for name in ("one", "two"):
        paths = [f"__pycache__/{name}.cpython-311.pyc", f"in_{name}", f"{name}.py"]
        listed = ", ".join(f'"{tmp_path}/{path}"' for path in paths)
        assert f'name = "{name}",\n    data = [{listed}],' in text


def test_only_extras_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An extra's packages count if someone asks for it; others could make circles."""
    install(tmp_path, "app", ["app.py"], ["web[fast]>=1", "absent"])
    install(tmp_path, "web", ["web.py"], ["speed; extra == 'fast'", 'app>=2 ; extra == "tests"'])
    install(tmp_path, "speed", ["speed.py"], [])
    text = generate(tmp_path, capsys)
    assert 'deps = [":web"],' in text
    assert 'deps = [":speed"],' in text
    assert '":app"' not in text

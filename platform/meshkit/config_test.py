"""Tests of settings: every mistake gets one clear line."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from meshkit.config import ConfigError, MeshSettings, load


class RedisSettings(BaseModel):
    """Settings of one part."""

    model_config = {"extra": "forbid"}

    url: str = Field(default="redis://127.0.0.1:6379", pattern=r"^redis://[^@]+$")
    pool_size: int = Field(default=16, ge=1)


class Settings(MeshSettings):
    """Settings for these tests."""

    address: str
    drain_seconds: float = 10
    redis: RedisSettings = RedisSettings()
    targets: dict[str, str] = Field(default_factory=dict[str, str])
    lanes: list[str] = Field(default_factory=list[str])


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    return path


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, nested keys and collections included."""
    path = _file(tmp_path, "address: a:1\nredis: {pool_size: 4}\ntargets: {memory: a:1}\n")
    settings = load(
        Settings,
        path=path,
        environ={
            "AGENTMESH_DRAIN_SECONDS": "2.5",
            "AGENTMESH_REDIS__URL": "redis://127.0.0.1:1",
            "AGENTMESH_TARGETS__TOOL": "a:2",
            "AGENTMESH_LANES": "[interactive, batch]",
            "PATH": "/bin",
        },
    )
    assert settings == Settings(
        address="a:1",
        drain_seconds=2.5,
        redis=RedisSettings(url="redis://127.0.0.1:1", pool_size=4),
        targets={"memory": "a:1", "tool": "a:2"},
        lanes=["interactive", "batch"],
    )


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the mapping that `load` is given counts."""
    monkeypatch.setenv("ADDRESS", "sneaky")
    monkeypatch.setenv("DRAIN_SECONDS", "1")
    settings = load(Settings, path=None, environ={"AGENTMESH_ADDRESS": "a:1"})
    assert (settings.address, settings.drain_seconds) == ("a:1", 10)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        (
            "adress: a:1\naddress: a:1\n",
            {},
            "{file}: adress is no setting; did you mean address?",
        ),
        (
            "address: a:1\nredis: {pool: 3}\n",
            {},
            "{file}: redis.pool is no setting; did you mean pool_size?",
        ),
        (
            "address: a:1\nredis: {pool_size: many}\n",
            {},
            "{file}: redis.pool_size: should be a valid integer, unable to parse string as an"
            " integer, not 'many'",
        ),
        (
            "address: a:1\n",
            {"AGENTMESH_REDIS__POOL_SIZE": "0"},
            "environment: AGENTMESH_REDIS__POOL_SIZE: should be greater than or equal to 1,"
            " not '0'",
        ),
        (
            "address: a:1\n",
            {"AGENTMESH_REDIS__ULR": "x"},
            "environment: AGENTMESH_REDIS__ULR is no setting; did you mean AGENTMESH_REDIS__URL?",
        ),
        (
            "address: a:1\nredis: {url: 'redis://:hunter2@a:1'}\n",
            {},
            "{file}: redis.url: String should match pattern '^redis://[^@]+$'",
        ),
        (
            "{}",
            {},
            "{file}: address is missing (in the file, or as AGENTMESH_ADDRESS)",
        ),
        ("a: [1\nb: 2\n", {}, "{file} line 2: is not YAML: expected ',' or ']', but got ':'"),
        ("address: 2026-13-45", {}, "{file}: holds a value that cannot be read"),
        ("address: !!bool maybe", {}, "{file}: holds a value that cannot be read"),
        ("[" * 5000, {}, "{file}: holds a value that cannot be read"),
        (
            "address: a:1",
            {"AGENTMESH_REDIS": "{pool_size: 2026-13-45}"},
            "environment: AGENTMESH_REDIS: should be a valid dictionary or instance of"
            " RedisSettings, not '{pool_size: 2026-13-45}'",
        ),
        ("just text", {}, "{file}: expected keys with values at the top"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path, text: str, environ: dict[str, str], expected: str
) -> None:
    """The line says where, which key, what is expected, and the nearest known key."""
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(Settings, path=path, environ=environ)
    assert str(caught.value) == expected.replace("{file}", str(path))


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    """A file that cannot be read is named with the cause."""
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load(Settings, path=path, environ={})
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"

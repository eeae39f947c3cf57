"""What is prepared for the containers is what they understand, and fits compose.yaml."""

import os
import re
import stat
import subprocess
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.places import HOST
from compose.prepare import hand_over, prepare
from meshkit import config
from meshkit.clock import SystemClock
from meshtest.child_server import binary
from meshtest.clock import FakeClock
from tier.parts import PARTS

_COMPOSE: Any = yaml.safe_load(Path("mesh/compose/compose.yaml").read_text("utf-8"))


@pytest.fixture(name="files", scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mesh")
    prepare(folder, clock=SystemClock())
    return folder


def _with_files(text: str, files: Path) -> str:
    return text.replace("${MESH_FILES:?}", str(files))


@pytest.mark.parametrize("name", ["gateway", "proxy"])
def test_envoy_takes_its_configuration(name: str, files: Path, tmp_path: Path) -> None:
    """Given as the container is, with all files where it says."""
    command = [_with_files(each, files) for each in _COMPOSE["services"][name]["command"]]
    ended = subprocess.run(
        [binary("ENVOY"), "--mode", "validate", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", list(_COMPOSE["services"]))
def test_what_containers_are_shown_is_there(name: str, files: Path) -> None:
    """Volumes, settings and secrets; the engine would make empty folders of what is missing."""
    service = _COMPOSE["services"][name]
    for volume in service.get("volumes", ()):
        assert Path(_with_files(volume, files).split(":")[0]).is_dir(), volume
    for kind in ("configs", "secrets"):
        for each in service.get(kind, ()):
            source = each if isinstance(each, str) else each["source"]
            file = _with_files(_COMPOSE[kind][source]["file"], files)
            assert (Path("mesh/compose") / file).is_file(), file


@pytest.mark.parametrize(
    "name",
    [each for each, service in _COMPOSE["services"].items() if "agentmesh/" in service["image"]],
)
def test_services_take_their_settings(name: str, files: Path) -> None:
    """As their own programs read them; they serve where their health is looked for."""
    service = _COMPOSE["services"][name]
    part = name.partition("-")[0]
    environ = service.get("environment", {})
    path = files / "settings" / f"{part}.yaml"
    settings: Any = config.load(
        import_module(f"services.{part}.settings").Settings, path=path, environ=environ
    )
    looked_for = re.search(r"'([\d.]+)', (\d+)\)", service["healthcheck"]["test"][-1])
    assert looked_for
    assert settings.address == f"{looked_for[1]}:{looked_for[2]}"
    calls = next(each.calls for each in PARTS if each.name == part)
    assert settings.targets.keys() == set(calls)
    shown = [_with_files(each, files).split(":")[1] for each in service["volumes"]]
    tls = settings.tls
    for file in (tls.certificate, tls.key, tls.authority):
        assert file.is_file()
        assert any(file.is_relative_to(each) for each in shown)
    assert str(settings.data_dir) in shown
    assert settings.drain_seconds < float(service["stop_grace_period"].removesuffix("s"))


def test_stores_are_where_settings_say(files: Path) -> None:
    """And nobody else's machine reaches them."""
    settings = yaml.safe_load((files / "settings" / "memory.yaml").read_text("utf-8"))
    for name, url in (("nats", settings["nats_url"]), ("redis", settings["redis_url"])):
        text = Path(f"mesh/compose/{name}.conf").read_text("utf-8")
        assert f"port{':' if name == 'nats' else ''} {url.rpartition(':')[2]}\n" in text
        assert re.search(rf"^(host:|bind) {HOST}$", text, re.MULTILINE)
    assert 'sync_interval: "always"' in Path("mesh/compose/nats.conf").read_text("utf-8")


def test_secrets_are_their_owner_s_alone(files: Path) -> None:
    """Keys, passwords and settings."""
    secrets = [*files.glob("secrets/*"), *files.glob("access/*"), *files.glob("settings/*")]
    secrets += files.glob("certificates/*/current/key.pem")
    assert len(secrets) > 15
    assert {stat.S_IMODE(each.stat().st_mode) for each in secrets} == {0o600}


async def test_again_it_changes_no_secret(tmp_path: Path) -> None:
    """What runs goes on with what it has; certificates are renewed at half of their life."""
    clock = FakeClock()
    prepare(tmp_path, clock=clock)

    def kept() -> dict[str, bytes]:
        files = [*tmp_path.glob("secrets/*"), *tmp_path.glob("access/*")]
        files += tmp_path.glob("certificates/*/current/key.pem")
        return {str(each): each.read_bytes() for each in files}

    before = kept()
    prepare(tmp_path, clock=clock)
    assert kept() == before
    await clock.advance(timedelta(days=91).total_seconds())
    prepare(tmp_path, clock=clock)
    changed = {Path(each).parts[-3] for each, content in kept().items() if before[each] != content}
    assert changed == {"gateway", "proxy", *(each.name for each in PARTS)}


def test_containers_never_run_as_root(tmp_path: Path) -> None:
    """Root's files are given to the images' user; anybody else's containers run as themselves."""
    assert hand_over(tmp_path, 1000, 100) == (1000, 100)
    if os.getuid():
        pytest.skip("Only root can give files away.")
    (tmp_path / "file").touch()
    try:
        assert hand_over(tmp_path, 0, 0) == (65532, 65532)
    except OSError:
        pytest.skip("This root is the only user of its namespace, and can give files to nobody.")
    assert (tmp_path / "file").stat().st_uid == 65532

"""Each rule about layers finds what breaks it."""

import io
import tarfile
from pathlib import Path

import pytest

from images import rules

_KEY = "-----BEGIN PRIVATE KEY-----\n" + "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w" + "\n"
# As an index with credentials would be named.
_PLACE = "https://me:it@packages.example.com"


def _layer(folder: Path, info: tarfile.TarInfo, content: bytes = b"") -> Path:
    file = folder / "layer.tar"
    info.size = len(content)
    with tarfile.open(file, "w") as tar:
        tar.addfile(info, io.BytesIO(content))
    return file


def _info(
    name: str = "app/services/tool.py", mode: int = 0o644, **further: object
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = mode
    for key, value in further.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("info", "content", "finding"),
    [
        (_info(mode=0o4644), "", "app/services/tool.py: gives its rights to who runs it"),
        (_info(mode=0o646), "", "app/services/tool.py: others may write to it"),
        (_info(mode=0o755), "", "app/services/tool.py: can be run"),
        (_info(uid=65532), "", "app/services/tool.py: belongs to 65532:0"),
        (_info("etc/shadow"), "", "etc/shadow: lies outside of app"),
        (
            _info("app/sh", type=tarfile.SYMTYPE, linkname="/bin/sh"),
            "",
            "app/sh: is neither a file nor a folder",
        ),
        (
            _info("app/packages/numpy/tests/test_it.py"),
            "",
            "app/packages/numpy/tests/test_it.py: is not needed to run",
        ),
        (
            _info("app/packages/pip-23.2.dist-info", 0o644),
            "",
            "app/packages/pip-23.2.dist-info: is a tool",
        ),
        (_info("app/pip.conf"), "", "app/pip.conf: holds settings of a tool"),
        (_info(), _KEY, "app/services/tool.py: '-----BEGIN P' begins what looks like a secret"),
        (
            _info(),
            _PLACE,
            "app/services/tool.py: 'https://me:it@' says where packages or images come from",
        ),
        (
            _info("app/repository/text_embedder/1/models/texts.py"),
            _PLACE,
            "app/repository/text_embedder/1/models/texts.py: 'https://me:it@' says where packages"
            " or images come from",
        ),
    ],
)
def test_what_breaks_a_rule_is_found(
    info: tarfile.TarInfo, content: str, finding: str, tmp_path: Path
) -> None:
    """One file that should not be there, or not so."""
    (member,) = rules.members(_layer(tmp_path, info, content.encode()))
    assert finding in list(rules.findings(member))


def test_a_package_beside_a_model_is_not_taken_for_ours(tmp_path: Path) -> None:
    """It may say where it is to be had."""
    info = _info("app/repository/text_embedder/1/numpy/version.py")
    (member,) = rules.members(_layer(tmp_path, info, _PLACE.encode()))
    assert list(rules.findings(member)) == []


def test_what_is_right_is_let_be(tmp_path: Path) -> None:
    """A module, and one that reads keys."""
    code = b'BEGINNING = "-----BEGIN PRIVATE KEY-----"\n'
    (member,) = rules.members(_layer(tmp_path, _info(), code))
    assert list(rules.findings(member)) == []

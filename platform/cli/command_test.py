"""Command lines: what they accept, refuse and print. None of these needs a mesh."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cli.app import app

_KIBIBYTE = "x" * 1024
_HTTP_1 = b"HTTP/1.0 400 Bad Request\r\n\r\n"


def _run(*arguments: str, stdin: bytes | str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin, prog_name="agentmesh")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    (tmp_path / "latin1.md").write_bytes(b"caf\xe9")
    (tmp_path / "x.docx").write_bytes(b"PK")
    return tmp_path


_REFUSED = [
    (["ask", ""], 1, "error: The text is empty. Say what to do, as in"),
    (["ask", " \n\t"], 1, "error: The text is empty."),
    (
        ["ask", _KIBIBYTE * 1025],
        1,
        "error: The text has 1,049,600 bytes, and a task may have 1,048,576 at most.",
    ),
    (["task", "submit", ""], 1, "error: The text is empty."),
    (
        ["ask", "hi", "--docs", "{}/gone"],
        1,
        "error: {}/gone: no such file or folder. Check the path.",
    ),
    (
        ["ask", "hi", "--docs", "{}/latin1.md"],
        1,
        "error: {}/latin1.md: is not UTF-8 text: invalid byte 0xe9 at offset 3. Convert it,",
    ),
    (
        ["docs", "add", "{}/x.docx"],
        1,
        "error: {}/x.docx: files ending in .docx cannot be read as documents. Documents",
    ),
    (["docs", "search", " "], 1, "error: The query is empty."),
    (
        ["task", "list"],
        1,
        "error: No mesh runs with data directory {}/data. Start one with `agentmesh up`,",
    ),
    (
        ["status"],
        1,
        "error: No mesh runs with data directory {}/data. Start one with `agentmesh up`.",
    ),
    (["logs"], 1, "error: There are no logs in {}/data."),
    (["task", "list", "--port", "1"], 1, "error: No mesh answers at 127.0.0.1:1. Start one with"),
    (["spend", "--gateway", "127.0.0.1:1"], 1, "error: No mesh answers at 127.0.0.1:1."),
    (
        ["spend", "--gateway", "here"],
        2,
        "error: --gateway must be HOST:PORT, such as 127.0.0.1:8080, or https://HOST:PORT for"
        " TLS, not 'here'.",
    ),
    (
        ["spend", "--gateway", "http://127.0.0.1:8080"],
        2,
        "error: --gateway must be HOST:PORT, such as 127.0.0.1:8080, or https://HOST:PORT for"
        " TLS, not 'http://127.0.0.1:8080'.",
    ),
    (
        ["spend", "--gateway", "127.0.0.1:1", "--ca", "{}/gone"],
        2,
        "error: --ca is of use for TLS alone: name the gateway with --gateway https://HOST:PORT.",
    ),
    (
        ["spend", "--gateway", "127.0.0.1:1", "--key", "{}/gone"],
        1,
        "error: {}/gone: cannot be read: No such file or directory.",
    ),
    (
        ["spend", "--gateway", "127.0.0.1:1", "--key", "{}/x.docx"],
        1,
        "error: {}/x.docx holds no API key and no token. It must be one, alone.",
    ),
    (
        ["spend", "--gateway", "https://127.0.0.1:1", "--ca", "{}/x.docx"],
        1,
        "error: {}/x.docx holds no certificate. It must be one in PEM.",
    ),
    (
        ["spend", "--gateway", "a:1", "--port", "1"],
        2,
        "error: --gateway and --port both name the gateway: give one.",
    ),
    (
        ["spend", "--port", "70000"],
        2,
        "error: Invalid value for '--port': 70000 is not in the range 0<=x<=65535.",
    ),
    (
        ["spend", "--port", "1", "--tenant", "A B"],
        1,
        "error: x-agentmesh-tenant: must be 1 to 63 lower-case letters",
    ),
    (
        ["up", "--tier", "moon"],
        2,
        "error: Invalid value for '--tier': 'moon' is not one of 'prototype', 'staging'.",
    ),
    (
        ["up", "--config", "{}/gone.yaml"],
        1,
        "error: {}/gone.yaml: no such file. Check the path given with --config.",
    ),
    (
        ["task", "submit", "x", "--label", "team"],
        2,
        "error: --label must be KEY=VALUE, such as team=ops, not 'team'.",
    ),
    (
        ["task", "submit", "x", "--time-limit", "soon"],
        2,
        "error: Invalid value for '--time-limit': 'soon' is no duration over zero",
    ),
    (["task", "get", ""], 1, "error: The name of the task is empty."),
    (["tool", "call", "calculator", "{"], 2, "error: The arguments are not JSON:"),
    (
        ["tool", "call", "calculator", "[1]"],
        2,
        "error: The arguments must be a JSON object, not '[1]'.",
    ),
    (
        ["agent", "create", "clerk"],
        2,
        "error: An agent needs --instructions or --instructions-file, one of them.",
    ),
    (["frobnicate"], 2, "error: There is no command 'frobnicate'; there are ask, up, down,"),
    (
        ["task", "frobnicate"],
        2,
        "error: There is no command 'frobnicate'; there are submit, get, list, watch, events,",
    ),
    (["ask"], 2, "error: Missing argument 'TEXT'. See `agentmesh ask --help`."),
    (["ask", "hi", "--frob"], 2, "error: No such option"),
]


@pytest.mark.parametrize(("arguments", "code", "line"), _REFUSED)
def test_bad_input_is_one_clear_line(
    documents: Path, arguments: list[str], code: int, line: str
) -> None:
    """What is wrong is one line on stderr; nothing is on stdout, and nothing is left behind."""
    given = [each.replace("{}", str(documents)) for each in arguments]
    result = _run(*given, "--data-dir", str(documents / "data"))
    assert result.stderr.startswith(line.replace("{}", str(documents)))
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1
    assert not (documents / "data").exists()


def test_every_error_is_json_when_asked(documents: Path) -> None:
    """With --json the error is one JSON object on stderr."""
    result = _run("ask", "", "--json")
    assert json.loads(result.stderr) == {
        "error": {
            "message": "The text is empty.",
            "remedy": 'Say what to do, as in agentmesh ask "What is 2 + 2?".',
        }
    }
    refused = _run("spend", "--port", "1", "--tenant", "A", "--json")
    error: dict[str, Any] = json.loads(refused.stderr)["error"]
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert error["violations"][0]["field"] == "x-agentmesh-tenant"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "error: The text is empty."),
        (
            b"x" * (10 << 20),
            "error: The text on stdin has over 1,048,576 bytes, the most for a task.",
        ),
        (
            b"ab\xff",
            "error: The text on stdin is not UTF-8: invalid byte 0xff at offset 2. Convert it,",
        ),
    ],
)
def test_text_on_stdin_is_checked(content: bytes, line: str) -> None:
    """A text on stdin has the same limits as one in the command line."""
    result = _run("ask", "-", stdin=content)
    assert result.stderr.startswith(line)
    assert result.exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["task"]])
def test_no_command_shows_which_there_are(arguments: list[str]) -> None:
    """A group without a command shows its help, as help and not as an error."""
    result = _run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == _run(*arguments, "--help").stdout


@contextmanager
def _other_server(says: bytes) -> Generator[str]:
    """The address of a server that says this to whoever connects, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with suppress(OSError):  # at the end of the test
                while True:
                    connection, _ = other.accept()
                    with connection, suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{other.getsockname()[1]}"
        other.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_no_gateway_is_told() -> None:
    """A port on which something else than a mesh listens is named, with what to do."""
    with _other_server(_HTTP_1) as address:
        result = _run("spend", "--gateway", address)
    assert result.stderr == (
        f"error: What listens at {address} is no gateway of a mesh. "
        "Name another with --port or --gateway.\n"
    )
    assert result.exit_code == 1


def test_a_server_that_hangs_up_may_want_tls() -> None:
    """So does one that is called in plain text at the port for TLS."""
    with _other_server(b"") as address:
        result = _run("spend", "--gateway", address)
    assert result.stderr == (
        f"error: What listens at {address} hung up. If it takes TLS, call it with --gateway"
        f" https://{address}; if it is a mesh of this machine, see `agentmesh status`.\n"
    )
    assert result.exit_code == 1


def test_the_error_is_all_that_is_said_of_a_handshake_that_fails() -> None:
    """gRPC's C core would add a line of its own."""
    with _other_server(_HTTP_1) as address:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "spend", "--gateway", f"https://{address}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == (
        f"error: What listens at {address} takes no TLS. Name the port that does, or on this"
        " machine leave https:// out.\n"
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_ctrl_c_is_told_while_an_error_is_being_told() -> None:
    """Who is impatient gets no trace either."""
    program = (
        "import cli.explain, cli.main, signal\n"
        "cli.explain.explain = lambda _: signal.raise_signal(signal.SIGINT)\n"
        "cli.main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "frobnicate"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: Interrupted.\n")


def test_common_options_may_stand_anywhere(tmp_path: Path) -> None:
    """An option of all commands counts before and after the command's name; the later one wins."""
    before = _run("--data-dir", str(tmp_path / "a"), "status")
    assert f"{tmp_path}/a" in before.stderr
    both = _run(
        "--data-dir", str(tmp_path / "a"), "task", "list", "--data-dir", str(tmp_path / "b")
    )
    assert f"{tmp_path}/b" in both.stderr


def test_status_says_in_json_that_nothing_runs(tmp_path: Path) -> None:
    """A script can tell from status that there is no mesh."""
    result = _run("status", "--json", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"running": False, "data_dir": str(tmp_path)}


def test_down_without_a_mesh_is_no_error(tmp_path: Path) -> None:
    """Stopping what does not run changes nothing."""
    result = _run("down", "--data-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (
        0,
        f"No mesh runs with data directory {tmp_path}.\n",
    )


def test_logs_shows_the_last_lines(tmp_path: Path) -> None:
    """The logs of a mesh can be read after its end, by process and as JSON."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "nats.log").write_text("one\ntwo\nthree\n")
    assert (
        _run("logs", "nats", "--lines", "2", "--data-dir", str(tmp_path)).stdout == "two\nthree\n"
    )
    shown = _run("logs", "--lines", "1", "--json", "--data-dir", str(tmp_path)).stdout
    assert json.loads(shown) == {"process": "nats", "line": "three"}
    unknown = _run("logs", "x", "--data-dir", str(tmp_path))
    assert unknown.stderr == "error: There is no log of 'x'; there are nats.\n"


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += _commands(command, (*path, name))
    return found


def test_every_help_teaches() -> None:
    """Every command has help with an example of itself, and takes --json."""
    commands = _commands(app)
    assert ("task", "watch") in commands
    for command in commands:
        text = _run(*command, "--help").stdout
        assert "Examples:" in text, command
        assert f"  agentmesh {' '.join(command)}" in text or len(command) == 1, command
        assert "--json" in text, command


def test_help_needs_no_heavy_library() -> None:
    """Help and checks of the command line come up without gRPC, which takes longest to load."""
    program = (
        "import sys; from click.testing import CliRunner; from cli.app import app;"
        "CliRunner().invoke(app, ['task', 'submit', '--help']);"
        "print(sorted({'grpc', 'asyncio', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_a_reader_that_goes_away_ends_a_command_as_pipes_do(tmp_path: Path) -> None:
    """`agentmesh logs | head -1` is silent on stderr, and no failure to a script."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/nats.log").write_text("a line\n")
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    program = "from cli.app import app; app.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "logs", "--data-dir", tmp_path],
        env=environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")

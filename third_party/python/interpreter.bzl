"""`@python_local`: the Python that builds, tests and runs everything here.

It is the machine's own: AGENTMESH_PYTHON if that is set, otherwise the first one
on PATH that is new enough. Those that Triton's models can run in come first.
"""

_OLDEST = (3, 11)
_COMMANDS = ["python3.11", "python3.12", "python3.13", "python3"]

_DESCRIBE = """
import importlib.util, os, sys
print(sys.version_info[0], sys.version_info[1], bool(importlib.util.find_spec("pip")), os.path.realpath(sys.executable), sep="\\n")
"""

# -P and -S keep out what a target does not depend on: modules that lie beside
# the main file, and whatever packages the machine happens to have installed.
_LAUNCHER = """#!/bin/sh
exec {interpreter} -P -S "$@"
"""

_BUILD = """
load("@rules_python//python:defs.bzl", "py_runtime", "py_runtime_pair")

py_runtime(
    name = "runtime",
    interpreter_path = "{launcher}",
    python_version = "PY3",
    stub_shebang = "#!{interpreter}",
)

py_runtime_pair(
    name = "runtime_pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)

exports_files(["interpreter.txt"])
"""

def _describe(rctx, command):
    """Returns the interpreter that `command` starts, or None if there is none."""
    result = rctx.execute([command, "-c", _DESCRIBE])
    if result.return_code != 0:
        return None
    major, minor, has_pip, path = result.stdout.strip().split("\n")
    return struct(
        version = (int(major), int(minor)),
        has_pip = has_pip == "True",
        path = path,
    )

def _find(rctx):
    chosen = rctx.os.environ.get("AGENTMESH_PYTHON")
    commands = [chosen] if chosen else _COMMANDS
    for command in commands:
        path = rctx.which(command) if "/" not in command else command
        found = _describe(rctx, path) if path else None
        if found and found.version >= _OLDEST:
            return found
    fail("No Python 3.11 or newer as %s. Install python3, or name one in AGENTMESH_PYTHON." % " or ".join(commands))

def _python_interpreter_impl(rctx):
    found = _find(rctx)
    if not found.has_pip:
        fail("%s has no pip. Install python3-pip, or name another Python in AGENTMESH_PYTHON." % found.path)
    rctx.file("interpreter.txt", found.path, executable = False)
    rctx.file("python", _LAUNCHER.format(interpreter = found.path))
    rctx.file("BUILD.bazel", _BUILD.format(
        interpreter = found.path,
        launcher = rctx.path("python"),
    ), executable = False)

python_interpreter = repository_rule(
    implementation = _python_interpreter_impl,
    environ = ["AGENTMESH_PYTHON", "PATH"],
    local = True,
    doc = "Finds the machine's Python and makes it Bazel's Python toolchain.",
)

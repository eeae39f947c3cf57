"""`@python_local`: the Python that builds, tests and runs everything here.

It is the machine's own: AGENTMESH_PYTHON if that is set, otherwise the first one
that is new enough and has pip. Those that Triton's models can run in come first, and
of each the distribution's: it is built with the optimisations by profile that
version managers leave out unless told, which is 10 to 27 % of the time of our code.
"""

_OLDEST = (3, 11)
_NAMES = ["python3.11", "python3.12", "python3.13", "python3"]
_COMMANDS = [place + name for name in _NAMES for place in ("/usr/bin/", "")]

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
    without_pip = None
    for command in [chosen] if chosen else _COMMANDS:
        path = rctx.path(command) if "/" in command else rctx.which(command)
        found = _describe(rctx, path) if path and path.exists else None
        if found and found.version >= _OLDEST:
            if found.has_pip:
                return found
            without_pip = without_pip or found.path
    if without_pip:
        fail("%s has no pip. Install python3-pip, or name another Python in AGENTMESH_PYTHON." % without_pip)
    fail("No Python 3.11 or newer as %s. Install python3, or name one in AGENTMESH_PYTHON." % (chosen or " or ".join(_NAMES)))

def _python_interpreter_impl(rctx):
    found = _find(rctx)
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

"""`@triton_env//:tritonserver`: Triton Inference Server, or AGENTMESH_TRITON_SERVER.

The server comes inside the nvidia-pytriton wheel, with the Python backend only.
Its models run in a virtual environment of their own, since it needs older
packages than everything else here. Nothing of it is fetched before a target
asks for it. On a machine that cannot run it, `tritonserver` is a text that says
why, and tests that need it are skipped.
"""

load("//third_party:server_binary.bzl", "export_server", "overridden")
load("//third_party/python:pip.bzl", "pip_install")

_OVERRIDE = "AGENTMESH_TRITON_SERVER"

# The newest numpy that the backend can use, 1.26, supports no newer one.
_PYTHONS = ["3.11", "3.12"]

_DESCRIBE = """
import sys, sysconfig
print("%d.%d" % sys.version_info[:2], sysconfig.get_config_var("LIBDIR"), sep="\\n")
"""

# The backend's embedded Python finds its packages through the first python3 on
# PATH, and must not see the caller's. All ports are on loopback unless the
# caller says otherwise. A model's process looks for its server by itself, but not
# while it waits for a lock that the server held when it was killed: what is left of
# the process group ends with the server, where the server leads one.
_LAUNCHER = """#!/bin/sh
# {pins}
server=$$
(
  while [ -d /proc/$server ]; do sleep 1; done
  kill -s KILL -- -$server
) > /dev/null 2>&1 &
unset PYTHONPATH PYTHONHOME
export LD_LIBRARY_PATH={libraries}
export PATH={venv}/bin:"$PATH"
exec {triton}/bin/tritonserver \\
  --backend-directory={backends} \\
  --http-address=127.0.0.1 \\
  --grpc-address=127.0.0.1 \\
  --metrics-address=127.0.0.1 \\
  "$@"
"""

def _run(rctx, command, failure):
    result = rctx.execute(command, timeout = 1200)
    if result.return_code != 0:
        fail("%s:\n%s" % (failure, result.stderr.strip()))
    return result.stdout.strip()

def _install(rctx, python, packages):
    """Makes the virtual environment."""
    venv = rctx.path("venv")
    _run(rctx, [python, "-m", "venv", "--without-pip", venv], "Python could not make a virtual environment")
    pip_install(rctx, python, rctx.path(rctx.attr._lock), packages, venv)

def _assemble_backend(rctx, triton, version):
    """Puts the Python backend together with the stub for this Python."""
    stub = "%s/python_backend_stubs/%s/triton_python_backend_stub" % (triton, version)
    _run(rctx, ["mkdir", "backends"], "Failed to make a folder")
    _run(rctx, ["cp", "-R", triton + "/backends/python", "backends"], "Failed to copy the backend")
    _run(rctx, ["cp", stub, "backends/python"], "Failed to copy the backend's stub")

def _missing_library(rctx, libraries):
    """Tells whether the backend lacks a library, which can only be Python's."""
    linked = rctx.execute(
        ["ldd", "backends/python/triton_python_backend_stub"],
        environment = {"LD_LIBRARY_PATH": libraries},
    )
    return "not found" in linked.stdout

def _pins(rctx):
    """Returns what is installed, for the launcher: a change reruns the tests."""
    lines = rctx.read(rctx.attr._lock).split("\n")
    return " ".join([line.split(" ")[0] for line in lines if "==" in line])

def _provide(rctx):
    """Provides the server, or returns why this machine cannot have it."""
    python = rctx.read(rctx.attr._interpreter)
    version, python_libraries = _run(rctx, [python, "-c", _DESCRIBE], "Python does not start").split("\n")
    if version not in _PYTHONS:
        return "Triton's models need Python %s, and this is %s; name another one in AGENTMESH_PYTHON" % (
            " or ".join(_PYTHONS),
            version,
        )

    packages = "%s/lib/python%s/site-packages" % (rctx.path("venv"), version)
    triton = packages + "/pytriton/tritonserver"
    libraries = "%s:%s/nvidia_pytriton.libs" % (python_libraries, packages)
    _install(rctx, python, packages)
    _assemble_backend(rctx, triton, version)
    if _missing_library(rctx, libraries):
        return "Triton's Python backend needs the package libpython%s" % version

    rctx.file("tritonserver", _LAUNCHER.format(
        backends = rctx.path("backends"),
        libraries = libraries,
        pins = _pins(rctx),
        triton = triton,
        venv = rctx.path("venv"),
    ))
    return None

def _triton_env_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "tritonserver"):
        missing = _provide(rctx)
        if missing:
            # Not a failure: everything else can be built and tested without.
            rctx.file("tritonserver", missing, executable = False)
    export_server(rctx, "tritonserver")

triton_env = repository_rule(
    implementation = _triton_env_impl,
    attrs = {
        "_interpreter": attr.label(default = "@python_local//:interpreter.txt"),
        "_lock": attr.label(default = "//third_party/triton:requirements.lock.txt"),
    },
    environ = [_OVERRIDE],
    doc = "Provides tritonserver with the packages that models import.",
)

"""`@triton_env//:tritonserver`: Triton Inference Server, or AGENTMESH_TRITON_SERVER.

The server comes inside the nvidia-pytriton wheel, with the Python backend only.
Its models run in a virtual environment of their own, since it needs older
packages than everything else here. Nothing of it is fetched before a target
asks for it.
"""

load("//third_party:server_binary.bzl", "export_server", "overridden")
load("//third_party/python:pip.bzl", "pip_install")

_OVERRIDE = "AGENTMESH_TRITON_SERVER"

_DESCRIBE = """
import sys, sysconfig
print("%d.%d" % sys.version_info[:2], sysconfig.get_config_var("LIBDIR"), sep="\\n")
"""

# The backend's embedded Python finds its packages through the first python3 on
# PATH, and must not see the caller's. All ports are on loopback unless the
# caller says otherwise.
_LAUNCHER = """#!/bin/sh
# {pins}
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

def _install(rctx):
    """Makes the virtual environment."""
    python = rctx.read(rctx.attr._interpreter)
    venv = rctx.path("venv")
    version, libraries = _run(rctx, [python, "-c", _DESCRIBE], "Python does not start").split("\n")
    packages = "%s/lib/python%s/site-packages" % (venv, version)

    _run(rctx, [python, "-m", "venv", "--without-pip", venv], "Python could not make a virtual environment")
    pip_install(rctx, python, rctx.path(rctx.attr._lock), packages, venv)
    return struct(
        version = version,
        packages = packages,
        libraries = libraries,
    )

def _backend(rctx, installed, libraries):
    """Puts the Python backend together with the stub for this Python."""
    triton = "%s/pytriton/tritonserver" % installed.packages
    stub = "%s/python_backend_stubs/%s/triton_python_backend_stub" % (triton, installed.version)
    if not rctx.path(stub).exists:
        fail("Triton has no backend for Python %s. Name another one in AGENTMESH_PYTHON." % installed.version)
    _run(rctx, ["mkdir", "backends"], "Failed to make a folder")
    _run(rctx, ["cp", "-R", triton + "/backends/python", stub, "backends"], "Failed to copy the backend")
    _run(rctx, ["mv", "backends/triton_python_backend_stub", "backends/python"], "Failed to copy the backend")

    linked = rctx.execute(
        ["ldd", "backends/python/triton_python_backend_stub"],
        environment = {"LD_LIBRARY_PATH": libraries},
    )
    if "not found" in linked.stdout:
        fail("Triton's backend needs the shared library of Python. Install libpython%s." % installed.version)

def _pins(rctx):
    """Returns what is installed, for the launcher: a change reruns the tests."""
    lines = rctx.read(rctx.attr._lock).split("\n")
    return " ".join([line.split(" ")[0] for line in lines if "==" in line])

def _triton_env_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "tritonserver"):
        installed = _install(rctx)
        libraries = "%s:%s/nvidia_pytriton.libs" % (installed.libraries, installed.packages)
        _backend(rctx, installed, libraries)
        rctx.file("tritonserver", _LAUNCHER.format(
            backends = rctx.path("backends"),
            libraries = libraries,
            pins = _pins(rctx),
            triton = "%s/pytriton/tritonserver" % installed.packages,
            venv = rctx.path("venv"),
        ))
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

"""A repository of locked Python packages, one py_library per distribution.

    python_packages(
        name = "pypi",
        lock = "//third_party/python:requirements.lock.txt",
    )

A target then names the distribution that it imports: `@pypi//:grpcio`. Which wheels
were installed, of all that the lock allows, stands in `@pypi//:wheels.json`.
"""

load(":pip.bzl", "pip_install")

_PACKAGES = "site-packages"
_REPORT = "report.json"

def _python_packages_impl(rctx):
    python = rctx.read(rctx.attr._interpreter)
    generator = rctx.path(rctx.attr._generator)
    wheels = rctx.path(rctx.attr._wheels)

    pip_install(rctx, python, rctx.path(rctx.attr.lock), _PACKAGES, report = _REPORT)

    result = rctx.execute([python, wheels, _REPORT])
    if result.return_code != 0:
        fail(result.stderr)
    rctx.file("wheels.json", result.stdout, executable = False)

    # It says where each was downloaded from.
    rctx.delete(_REPORT)

    result = rctx.execute([python, generator, _PACKAGES])
    if result.return_code != 0:
        fail(result.stderr)
    rctx.file("BUILD.bazel", result.stdout, executable = False)

python_packages = repository_rule(
    implementation = _python_packages_impl,
    attrs = {
        "lock": attr.label(
            mandatory = True,
            allow_single_file = True,
            doc = "Requirements with exact versions and hashes.",
        ),
        "_generator": attr.label(
            default = "//third_party/python:generate_build.py",
        ),
        "_interpreter": attr.label(
            default = "@python_local//:interpreter.txt",
        ),
        "_wheels": attr.label(
            default = "//third_party/python:wheels.py",
        ),
    },
    doc = "Installs a lock file and writes one py_library per distribution.",
)

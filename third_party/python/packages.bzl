"""A repository of locked Python packages, one py_library per distribution.

    python_packages(
        name = "pypi",
        lock = "//third_party/python:requirements.lock.txt",
    )

A target then names the distribution that it imports: `@pypi//:grpcio`.

pip does the installing, with the machine's own pip configuration, so that no
index is named here; the lock's hashes say which bytes are accepted.
"""

_INSTALL_SECONDS = 1200

def _python_packages_impl(rctx):
    python = rctx.read(rctx.attr._interpreter)
    lock = rctx.path(rctx.attr.lock)
    generator = rctx.path(rctx.attr._generator)

    rctx.report_progress("Installing the locked packages with pip")
    result = rctx.execute(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "--target=site-packages",
            "--requirement=%s" % lock,
        ],
        timeout = _INSTALL_SECONDS,
    )
    if result.return_code != 0:
        fail("pip could not install %s (is the package index reachable?):\n%s" % (rctx.attr.lock, result.stderr))

    result = rctx.execute([python, generator, "site-packages"])
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
    },
    doc = "Installs a lock file and writes one py_library per distribution.",
)

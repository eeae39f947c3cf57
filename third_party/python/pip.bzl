"""Installs a lock file with pip inside a repository rule."""

_INSTALL_SECONDS = 1200

def pip_install(rctx, python, lock, packages, venv = None, report = None):
    """Installs exactly what a lock file names.

    The machine's own pip configuration applies, so that no index is named here;
    the lock's hashes say which bytes are accepted.

    Args:
      rctx: the repository rule's context.
      python: the path of the Python whose pip is used.
      lock: the path of the lock file.
      packages: the folder that the packages get into.
      venv: the virtual environment that this folder belongs to, if to one.
      report: the file that pip says into what it has installed, if anybody asks.
    """
    rctx.report_progress("Installing locked packages with pip")
    result = rctx.execute(
        [python, "-m", "pip"] + (["--python=%s" % venv] if venv else []) + [
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "--requirement=%s" % lock,
        ] + ([] if venv else ["--target=%s" % packages]) + (["--report=%s" % report] if report else []),
        timeout = _INSTALL_SECONDS,
    )
    if result.return_code != 0:
        fail("pip could not install %s (is the package index reachable?):\n%s" % (lock, result.stderr.strip()))

    # A .pth file runs code in every Python that sees it: the usual place for
    # what a stolen package brings along, and nothing here needs one.
    for file in rctx.path(packages).readdir():
        if file.basename.endswith(".pth"):
            fail("%s carries %s, and packages with .pth files are refused. Take it out of the lock." % (lock, file.basename))

"""Unpacks Debian packages inside a repository rule, without installing them."""

def fetch_debian_packages(rctx, suite, packages, script):
    """Downloads packages and unpacks them into the folder `root`.

    Args:
      rctx: the repository rule's context.
      suite: the Debian release, such as "bookworm".
      packages: package names, each with an optional "=VERSION" (a wildcard is
        best: exact revisions vanish from mirrors).
      script: the path of fetch.sh.

    Returns:
      struct(versions, error): the packages' file names, or why there are none.
    """
    if not rctx.which("apt-get"):
        return struct(versions = [], error = "this machine has no apt-get")
    result = rctx.execute([script, suite, rctx.path("root")] + packages, timeout = 600)
    if result.return_code != 0:
        return struct(versions = [], error = result.stderr.strip())
    return struct(versions = result.stdout.strip().split("\n"), error = None)

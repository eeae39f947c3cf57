"""What the repositories of server binaries have in common.

Each has one target named like its program, and lets an environment variable
name a program to use instead.
"""

def overridden(rctx, variable, name):
    """Links the program that the environment names, if it names one.

    Args:
      rctx: the repository rule's context.
      variable: the environment variable, listed in the rule's `environ`.
      name: what the program is called in the repository.

    Returns:
      True if the program is in place.
    """
    path = rctx.os.environ.get(variable)
    if not path:
        return False
    if not rctx.path(path).exists:
        fail("%s is %s, which does not exist." % (variable, path))
    rctx.symlink(path, name)
    return True

def export_server(rctx, name):
    """Makes the program a target."""
    rctx.file("BUILD.bazel", """exports_files(["%s"])\n""" % name, executable = False)

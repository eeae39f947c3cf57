"""A program written in Python.

    load("//platform/build:mesh_py_binary.bzl", "mesh_py_binary")

    mesh_py_binary(
        name = "agentmesh",
        main = "main.py",
        deps = [":commands"],
    )
"""

load("@rules_python//python:defs.bzl", "py_binary")
load(":import_root.bzl", "import_root")

def mesh_py_binary(name, main, deps = [], data = [], args = [], tags = [], testonly = False, visibility = None):
    """Declares a program.

    Args:
      name: the target's name.
      main: the file to run.
      deps: what it imports.
      data: files that it reads.
      args: arguments that `bazel run` puts before the caller's.
      tags: Bazel's tags.
      testonly: whether only tests may use it.
      visibility: who may use it.
    """
    py_binary(
        name = name,
        srcs = [main],
        args = args,
        main = main,
        data = data,
        imports = import_root(),
        # An __init__.py in platform/ would hide the standard library's module.
        # The flag in .bazelrc is not heeded where a program is a build's tool.
        legacy_create_init = 0,
        tags = tags,
        testonly = testonly,
        visibility = visibility,
        deps = deps,
    )

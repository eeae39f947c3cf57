"""A service: its composition root, as a program and as a library.

    load("//platform/build:mesh_service.bzl", "mesh_service")

    mesh_service(
        name = "governor",
        deps = [":budget", ":service", "//platform/meshkit:program"],
    )

`governor` is the program, for the tiers with one process a service;
`governor_main` is main.py as a library, for the one that runs all in one.
"""

load(":mesh_py_binary.bzl", "mesh_py_binary")
load(":mesh_py_library.bzl", "mesh_py_library")

_MAIN = "main.py"

def mesh_service(name, deps, data = [], visibility = None):
    """Declares a service.

    Args:
      name: the program's name.
      deps: what main.py imports.
      data: files that it reads.
      visibility: who may use the program and the library.
    """
    mesh_py_library(
        name = name + "_main",
        srcs = [_MAIN],
        data = data,
        visibility = visibility,
        deps = deps,
    )
    mesh_py_binary(
        name = name,
        main = _MAIN,
        visibility = visibility,
        deps = [name + "_main"],
    )

"""One idea of Python: usually a module or two.

    load("//platform/build:mesh_py_library.bzl", "mesh_py_library")

    mesh_py_library(
        name = "budget",
        srcs = ["budget.py"],
        deps = [
            "//platform/meshkit:errors",
            "//proto/agentmesh/governor/v1",
            "@pypi//:redis",
        ],
    )

Imported as `services.governor.budget`, or `meshkit.errors` for what lies under
platform/. Private to its folder unless it says otherwise.
"""

load("@rules_python//python:defs.bzl", "py_library")
load(":import_root.bzl", "import_root")

def mesh_py_library(name, srcs, deps = [], data = [], testonly = False, visibility = None):
    """Declares a library.

    Args:
      name: the target's name.
      srcs: its modules.
      deps: what they import, from here and from @pypi.
      data: files that they read.
      testonly: whether only tests may use it.
      visibility: who may use it.
    """
    py_library(
        name = name,
        srcs = srcs,
        data = data,
        imports = import_root(),
        testonly = testonly,
        visibility = visibility,
        deps = deps,
    )

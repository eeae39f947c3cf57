"""One package of contracts: its Python modules and their types.

    # proto/agentmesh/tool/v1/BUILD.bazel
    load("//platform/build:mesh_proto.bzl", "mesh_proto")

    mesh_proto(
        name = "v1",
        srcs = ["tool.proto", "tool_service.proto"],
        visibility = ["//:__subpackages__"],
        deps = ["//proto/agentmesh/common/v1"],
    )

A target with `//proto/agentmesh/tool/v1` in its deps then imports
`agentmesh.tool.v1.tool_service_pb2` and `..._pb2_grpc`.

Besides the library `v1` there are `v1_protos`, the .proto files with all that
they import, and `v1_stubs`, the generated files with their .pyi.
"""

load("@rules_python//python:defs.bzl", "py_library")

# Where imports in .proto files and in Python both begin.
_ROOT = "proto"

_GENERATED = ["_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"]

_COMMAND = " ".join([
    "$(execpath //platform/build:protoc)",
    "--plugin=protoc-gen-grpc_types=$(execpath //platform/build:protoc_gen_grpc_types)",
    "-I{root}",
    "--python_out=$(GENDIR)/{root}",
    "--pyi_out=$(GENDIR)/{root}",
    "--grpc_python_out=$(GENDIR)/{root}",
    "--grpc_types_out=quiet,only_async:$(GENDIR)/{root}",
    "{files}",
])

def protos_of(package):
    """Returns the label of a mesh_proto's .proto files, given the mesh_proto's."""
    if ":" not in package:
        package += ":" + package.split("/")[-1]
    return package + "_protos"

def mesh_proto(name, srcs, deps = [], visibility = None):
    """Declares a package of contracts.

    Args:
      name: the name of the Python library.
      srcs: the package's .proto files.
      deps: other mesh_proto packages that these import.
      visibility: who may use it.
    """
    package = native.package_name()
    depth = len(package.split("/")) - len(_ROOT.split("/"))

    native.filegroup(
        name = name + "_protos",
        srcs = srcs + [protos_of(dep) for dep in deps],
        visibility = visibility,
    )

    native.genrule(
        name = name + "_stubs",
        srcs = [name + "_protos"],
        outs = [
            src[:-len(".proto")] + suffix
            for src in srcs
            for suffix in _GENERATED
        ],
        cmd = _COMMAND.format(
            root = _ROOT,
            files = " ".join(["%s/%s" % (package, src) for src in srcs]),
        ),
        tools = [
            "//platform/build:protoc",
            "//platform/build:protoc_gen_grpc_types",
        ],
        visibility = visibility,
    )

    py_library(
        name = name,
        srcs = [
            src[:-len(".proto")] + suffix
            for src in srcs
            for suffix in _GENERATED
            if suffix.endswith(".py")
        ],
        imports = ["/".join([".."] * depth)],
        visibility = visibility,
        deps = deps + [
            "@pypi//:googleapis-common-protos",
            "@pypi//:grpcio",
            "@pypi//:protobuf",
        ],
    )

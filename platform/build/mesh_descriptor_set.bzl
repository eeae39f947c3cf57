"""One file that describes several packages of contracts, with their comments.

    mesh_descriptor_set(
        name = "descriptor_set",
        out = "agentmesh.binpb",
        deps = ["//proto/agentmesh/tool/v1"],
    )

Envoy reads it to turn JSON into gRPC; whatever they import is part of it.
"""

load(":mesh_proto.bzl", "protos_of")

_COMMAND = " ".join([
    "$(execpath //platform/build:protoc)",
    "-Iproto",
    "--include_imports",
    "--include_source_info",
    "--descriptor_set_out=$@",
    "$(SRCS)",
])

def mesh_descriptor_set(name, out, deps, visibility = None):
    """Declares a descriptor set.

    Args:
      name: the target's name.
      out: the file's name.
      deps: the mesh_proto packages described.
      visibility: who may use it.
    """
    native.genrule(
        name = name,
        srcs = [protos_of(dep) for dep in deps],
        outs = [out],
        cmd = _COMMAND,
        tools = ["//platform/build:protoc"],
        visibility = visibility,
    )

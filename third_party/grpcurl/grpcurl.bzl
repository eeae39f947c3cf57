"""`@grpcurl//:grpcurl`, built from its Go module when somebody asks for it.

On a machine that cannot build it, it is a text that says why, and tests that need it are skipped.
"""

load("//third_party:server_binary.bzl", "export_server", "overridden")
load("//third_party/go:build.bzl", "build_go_program")

_OVERRIDE = "AGENTMESH_GRPCURL"
_PACKAGE = "github.com/fullstorydev/grpcurl/cmd/grpcurl"

def _grpcurl_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "grpcurl"):
        rctx.report_progress("Building grpcurl")
        no_build = build_go_program(rctx, rctx.path(rctx.attr._go_mod), _PACKAGE, "grpcurl")
        if no_build:
            # Not a failure: everything else can be built and tested without.
            text = "No grpcurl: %s. Set %s to a grpcurl." % (no_build, _OVERRIDE)
            rctx.file("grpcurl", text, executable = False)
    export_server(rctx, "grpcurl")

grpcurl = repository_rule(
    implementation = _grpcurl_impl,
    attrs = {
        "_go_mod": attr.label(default = "//third_party/grpcurl:go.mod"),
        "_go_sum": attr.label(default = "//third_party/grpcurl:go.sum"),
    },
    environ = [_OVERRIDE],
    doc = "Provides grpcurl.",
)

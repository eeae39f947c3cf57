"""Programs that no service needs, each built from its Go module or named by AGENTMESH_<PROGRAM>.

On a machine that cannot build one it is a text that says why, and the tests that need it are
skipped.
"""

load("//third_party:server_binary.bzl", "overridden")
load(":build.bzl", "build_go_program")

# No inlining, and nothing for debuggers: what runs for a minute is to be built soon. One for all, so
# that a package they share is compiled once.
_FLAGS = ["-gcflags=all=-l -dwarf=false", "-ldflags=-w"]

def _override(program):
    return "AGENTMESH_" + program.upper().replace("-", "_")

def _go_programs_impl(rctx):
    for program, package in rctx.attr.programs.items():
        if overridden(rctx, _override(program), program):
            continue
        rctx.report_progress("Building %s" % program)
        no_build = build_go_program(rctx, rctx.path(rctx.attr.go_mod), package, program, _FLAGS)
        if no_build:
            # Not a failure: everything else can be built and tested without.
            why = no_build.split("\n")[-1]
            rctx.file(
                program,
                "%s cannot be built on this machine: %s\n" % (program, why),
                executable = False,
            )
    exported = "exports_files(%s)\n" % json.encode(rctx.attr.programs.keys())
    rctx.file("BUILD.bazel", exported, executable = False)

go_programs = repository_rule(
    implementation = _go_programs_impl,
    attrs = {
        "go_mod": attr.label(mandatory = True),
        "go_sum": attr.label(mandatory = True),
        "programs": attr.string_dict(
            doc = "The import path of each program's main package.",
            mandatory = True,
        ),
    },
    environ = [
        _override(program)
        for program in ("etcd", "grpcurl", "istioctl", "kube-apiserver", "kustomize")
    ],
    doc = "Provides programs out of the modules that a go.mod and go.sum pin.",
)

"""The repositories of deps.bzl for Bazel versions that read MODULE.bazel."""

load("//third_party:deps.bzl", "agentmesh_repositories")

deps = module_extension(
    implementation = lambda _mctx: agentmesh_repositories(),
    doc = "Makes every repository of //third_party:deps.bzl.",
)

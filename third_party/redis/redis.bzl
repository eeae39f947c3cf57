"""`@redis//:redis-server`: Redis from Debian bookworm, or AGENTMESH_REDIS_SERVER."""

load("//third_party:server_binary.bzl", "export_server", "overridden")
load("//third_party/debian:fetch.bzl", "fetch_debian_packages")

_OVERRIDE = "AGENTMESH_REDIS_SERVER"

# The server and the libraries that a bare Debian does not have anyway.
_PACKAGES = [
    "redis-server=5:7.0.*",
    "redis-tools=5:7.0.*",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
]

# The versions are written down so that a change of them reruns the tests.
_LAUNCHER = """#!/bin/sh
# {versions}
for folder in {root}/usr/lib/*-linux-gnu; do
  export LD_LIBRARY_PATH="$folder"
done
exec {root}/usr/bin/redis-server "$@"
"""

def _redis_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "redis-server"):
        rctx.report_progress("Downloading Redis")
        fetched = fetch_debian_packages(rctx, "bookworm", _PACKAGES, rctx.path(rctx.attr._fetch))
        if fetched.error:
            fail("No Redis server: %s. Set %s to a redis-server." % (fetched.error, _OVERRIDE))
        rctx.file("redis-server", _LAUNCHER.format(
            root = rctx.path("root"),
            versions = " ".join(fetched.versions),
        ))
    export_server(rctx, "redis-server")

redis = repository_rule(
    implementation = _redis_impl,
    attrs = {"_fetch": attr.label(default = "//third_party/debian:fetch.sh")},
    environ = [_OVERRIDE],
    doc = "Provides redis-server.",
)

"""`@nats//:nats-server`: the NATS server, or AGENTMESH_NATS_SERVER.

Built from its Go module where a Go toolchain is at hand, which pins every byte;
otherwise Debian sid's package, whose program runs on older releases too.
"""

load("//third_party:server_binary.bzl", "export_server", "overridden")
load("//third_party/debian:fetch.bzl", "fetch_debian_packages")
load("//third_party/go:build.bzl", "build_go_program")

_OVERRIDE = "AGENTMESH_NATS_SERVER"
_PACKAGE = "github.com/nats-io/nats-server/v2"

# The first with all of: expected last sequence by another subject, direct get
# of many messages at once, and `sync_interval: always`.
_OLDEST = (2, 12)
_VERSION_PREFIX = "nats-server: v"

def _is_new_enough(version):
    """Tells whether this, as the server prints it, has all that is needed."""
    if not version.startswith(_VERSION_PREFIX):
        return False
    numbers = version[len(_VERSION_PREFIX):].split(".")
    return (int(numbers[0]), int(numbers[1])) >= _OLDEST

def _check_version(rctx):
    version = rctx.execute([rctx.path("nats-server"), "--version"]).stdout.strip()
    if not _is_new_enough(version):
        fail("NATS %d.%d or newer is needed, and this is %s. Set %s to another one." % (
            _OLDEST[0],
            _OLDEST[1],
            version or "none",
            _OVERRIDE,
        ))

def _nats_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "nats-server"):
        rctx.report_progress("Building the NATS server")
        no_build = build_go_program(rctx, rctx.path(rctx.attr._go_mod), _PACKAGE, "nats-server")
        if no_build:
            rctx.report_progress("Downloading the NATS server")
            fetched = fetch_debian_packages(rctx, "sid", ["nats-server"], rctx.path(rctx.attr._fetch))
            if fetched.error:
                fail("No NATS server: it could neither be built (%s) nor downloaded (%s). Set %s to a nats-server." % (
                    no_build,
                    fetched.error,
                    _OVERRIDE,
                ))
            rctx.symlink("root/usr/sbin/nats-server", "nats-server")
    _check_version(rctx)
    export_server(rctx, "nats-server")

nats = repository_rule(
    implementation = _nats_impl,
    attrs = {
        "_fetch": attr.label(default = "//third_party/debian:fetch.sh"),
        "_go_mod": attr.label(default = "//third_party/nats:go.mod"),
        "_go_sum": attr.label(default = "//third_party/nats:go.sum"),
    },
    environ = [_OVERRIDE],
    doc = "Provides nats-server.",
)

"""`@postgres//:postgres-server`: PostgreSQL from Debian bookworm, or AGENTMESH_POSTGRES_SERVER.

Only tests and benchmarks use it: staging starts the one that is installed on its machine, by the
same launcher.
"""

load("//third_party:server_binary.bzl", "export_server", "overridden")
load("//third_party/debian:fetch.bzl", "fetch_debian_packages")

_OVERRIDE = "AGENTMESH_POSTGRES_SERVER"

# The server and the libraries that a bare Debian does not have anyway.
_PACKAGES = [
    "postgresql-15=15.*",
    "libpq5=15.*",
    "libcom-err2",
    "libgssapi-krb5-2",
    "libicu72",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "libsasl2-2",
    "libxml2",
]

def _postgres_impl(rctx):
    if not overridden(rctx, _OVERRIDE, "postgres-server"):
        rctx.report_progress("Downloading PostgreSQL")
        fetched = fetch_debian_packages(rctx, "bookworm", _PACKAGES, rctx.path(rctx.attr._fetch))
        if fetched.error:
            fail("No PostgreSQL: %s. Set %s to a launcher like third_party/postgres/launcher.sh.in." %
                 (fetched.error, _OVERRIDE))
        rctx.template("postgres-server", rctx.attr._launcher, {
            "@LIBRARIES@": "%s/usr/lib/*-linux-gnu" % rctx.path("root"),
            "@PROGRAMS@": "%s/usr/lib/postgresql/15/bin" % rctx.path("root"),
            "@TEMPLATE@": str(rctx.path("template")),
            # Written down so that a change of them reruns the tests.
            "@VERSIONS@": " ".join(fetched.versions),
        })

        # It makes the data, tells where, and ends. Without them each test makes its own.
        rctx.execute(["./postgres-server", "template", "-C", "data_directory"])
    export_server(rctx, "postgres-server")

postgres = repository_rule(
    implementation = _postgres_impl,
    attrs = {
        "_fetch": attr.label(default = "//third_party/debian:fetch.sh"),
        "_launcher": attr.label(default = "//third_party/postgres:launcher.sh.in"),
    },
    environ = [_OVERRIDE],
    doc = "Provides postgres-server.",
)

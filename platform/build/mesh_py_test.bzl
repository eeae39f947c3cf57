"""A test file, run by pytest.

    load("//platform/build:mesh_py_test.bzl", "mesh_py_test")

    mesh_py_test(
        name = "task_log_jetstream_test",
        srcs = ["task_log_jetstream_test.py"],
        servers = ["nats"],
        deps = [
            ":task_log_jetstream",
            "//platform/meshtest:nats_server",
        ],
    )

The files of `srcs` named *_test.py are the ones that pytest collects. `servers`
names the real servers and other programs that the test starts; it finds each in the environment:
ENVOY, ETCD, GRPCURL, KUBE_APISERVER, KUSTOMIZE, NATS_SERVER, POSTGRES_SERVER, REDIS_SERVER,
TRITON_SERVER. One that the machine cannot have is missing there, and the test is to skip. No
network but loopback.
"""

load("@rules_python//python:defs.bzl", "py_test")
load(":import_root.bzl", "import_root")

_RUNNER = "//tools/pytest:runner.py"

_SERVERS = {
    "envoy": struct(variable = "ENVOY", binary = "@envoy//:envoy"),
    "etcd": struct(variable = "ETCD", binary = "@kubernetes//:etcd"),
    # No servers, but as those: programs that a machine may not have.
    "grpcurl": struct(variable = "GRPCURL", binary = "@grpcurl//:grpcurl"),
    "istioctl": struct(variable = "ISTIOCTL", binary = "@kubernetes//:istioctl"),
    "kube-apiserver": struct(variable = "KUBE_APISERVER", binary = "@kubernetes//:kube-apiserver"),
    "kustomize": struct(variable = "KUSTOMIZE", binary = "@kustomize//:kustomize"),
    "nats": struct(variable = "NATS_SERVER", binary = "@nats//:nats-server"),
    "postgres": struct(variable = "POSTGRES_SERVER", binary = "@postgres//:postgres-server"),
    "redis": struct(variable = "REDIS_SERVER", binary = "@redis//:redis-server"),
    "triton": struct(variable = "TRITON_SERVER", binary = "@triton_env//:tritonserver"),
}

def mesh_py_test(
        name,
        srcs,
        deps = [],
        data = [],
        servers = [],
        env = {},
        size = "small",
        shard_count = None,
        tags = []):
    """Declares a test.

    Args:
      name: the target's name.
      srcs: its modules.
      deps: what they import; pytest and its plugins come by themselves.
      data: files that they read.
      servers: any of "envoy", "etcd", "grpcurl", "istioctl", "kube-apiserver", "kustomize", "nats",
        "postgres", "redis", "triton".
      env: environment variables, which may name data by $(rootpath).
      size: "small" (some seconds), "medium" (a minute) or "large"; /.bazelrc has their limits.
      shard_count: into how many processes to split the test's cases.
      tags: Bazel's tags.
    """
    chosen = [_SERVERS[server] for server in servers]
    environment = {
        server.variable: "$(rootpath %s)" % server.binary
        for server in chosen
    }
    if chosen:
        environment["MESH_SERVERS"] = " ".join([server.variable for server in chosen])
    environment.update(env)

    py_test(
        name = name,
        size = size,
        srcs = srcs + [_RUNNER],
        args = [
            "%s/%s" % (native.package_name(), src)
            for src in srcs
            if src.endswith("_test.py")
        ],
        data = data + [server.binary for server in chosen],
        env = environment,
        imports = import_root(),
        # See mesh_py_binary.
        legacy_create_init = 0,
        main = _RUNNER,
        shard_count = shard_count,
        tags = tags,
        deps = deps + [
            "@pypi//:hypothesis",
            "@pypi//:pytest",
            "@pypi//:pytest-asyncio",
        ],
    )

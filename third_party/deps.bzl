"""Every repository that comes from outside: one list for every Bazel.

None is fetched before a target that uses it is built.
"""

load("//third_party/envoy:envoy.bzl", "envoy")
load("//third_party/go:programs.bzl", "go_programs")
load("//third_party/kubernetes_schemas:kubernetes_schemas.bzl", "kubernetes_schemas")
load("//third_party/nats:nats.bzl", "nats")
load("//third_party/postgres:postgres.bzl", "postgres")
load("//third_party/python:interpreter.bzl", "python_interpreter")
load("//third_party/python:packages.bzl", "python_packages")
load("//third_party/redis:redis.bzl", "redis")
load("//third_party/triton:triton_env.bzl", "triton_env")

def agentmesh_repositories():
    """Declares the repositories."""
    python_interpreter(name = "python_local")
    python_packages(
        name = "pypi",
        lock = "//third_party/python:requirements.lock.txt",
    )
    python_packages(
        name = "devtools",
        lock = "//third_party/python:devtools.lock.txt",
    )
    envoy(name = "envoy")
    nats(name = "nats")
    postgres(name = "postgres")
    redis(name = "redis")
    triton_env(name = "triton_env")
    go_programs(
        name = "grpcurl",
        go_mod = "//third_party/grpcurl:go.mod",
        go_sum = "//third_party/grpcurl:go.sum",
        programs = {"grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl"},
    )
    go_programs(
        name = "kubernetes",
        go_mod = "//third_party/kubernetes:go.mod",
        go_sum = "//third_party/kubernetes:go.sum",
        programs = {
            "etcd": "go.etcd.io/etcd/server/v3",
            "istioctl": "istio.io/istio/istioctl/cmd/istioctl",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        },
    )
    kubernetes_schemas(name = "kubernetes_schemas")
    go_programs(
        name = "kustomize",
        go_mod = "//third_party/kustomize:go.mod",
        go_sum = "//third_party/kustomize:go.sum",
        programs = {"kustomize": "sigs.k8s.io/kustomize/kustomize/v5"},
    )

"""`@kubernetes_schemas//:schemas`: definitions of custom resources, out of Go modules.

Downloaded for the files alone; nothing is built. The repository is there in any case: without a
Go toolchain, or where its proxy lacks a module, it holds `missing.txt` besides, which says what is
missing and why, and the tests that need all definitions are skipped.
"""

# Each by the hash of its module, as a go.sum has it.
_MODULES = [
    struct(
        module = "istio.io/api@v1.31.1",
        sum = "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=",
        files = ["kubernetes/customresourcedefinitions.gen.yaml"],
    ),
    struct(
        module = "sigs.k8s.io/gateway-api@v1.6.3",
        sum = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
        files = [
            "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
            "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml",
        ],
    ),
    struct(
        module = "github.com/kedacore/keda/v2@v2.21.0",
        sum = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        files = [
            "config/crd/bases/keda.sh_scaledobjects.yaml",
            "config/crd/bases/keda.sh_triggerauthentications.yaml",
        ],
    ),
    struct(
        module = "github.com/argoproj/argo-rollouts@v1.9.0",
        sum = "h1:bXgBpwCByXyAUcgBnyP0fxkSW2CEot78InTFjFlag5g=",
        files = ["manifests/crds/rollout-crd.yaml"],
    ),
    struct(
        module = "github.com/cloudnative-pg/cloudnative-pg@v1.30.1",
        sum = "h1:d1jxp0jQi7/3zrEhsv9ycD+G5ssmkNvDvTmogaGccCw=",
        files = ["config/crd/bases/postgresql.cnpg.io_clusters.yaml"],
    ),
    struct(
        module = "sigs.k8s.io/gateway-api-inference-extension@v1.6.0",
        sum = "h1:cjtwMJYcTnLXBYE5ffR1/hHhn7U1aIFfe2RITYmOXVA=",
        files = ["config/crd/bases/inference.networking.k8s.io_inferencepools.yaml"],
    ),
    # Of Compose, whose files are manifests of another kind.
    struct(
        module = "github.com/compose-spec/compose-go/v2@v2.16.2",
        sum = "h1:pTp1DqQwJzFd85GzlWsSszKA1ABrV/ySqsClujIcWA8=",
        files = ["schema/compose-spec.json"],
    ),
]

def _download(rctx, go, each):
    """Links the module's files. Returns None, or why that could not be done."""
    result = rctx.execute(
        [go, "mod", "download", "-json", each.module],
        environment = {
            "GOFLAGS": "-mod=mod",
            # The hashes above say what is accepted.
            "GONOSUMDB": "*",
            # The toolchain at hand or none: do not download another one.
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        },
        timeout = 300,
    )
    if result.return_code != 0:
        return "%s could not be downloaded" % each.module
    found = json.decode(result.stdout)
    if found["Sum"] != each.sum:
        fail("%s has the hash %s, and not %s." % (each.module, found["Sum"], each.sum))
    for file in each.files:
        rctx.symlink("%s/%s" % (found["Dir"], file), file.split("/")[-1])
    return None

def _impl(rctx):
    go = rctx.which("go")
    missing = [] if go else ["there is no Go toolchain to download them with"]
    modules = _MODULES if go else []
    names = []
    for each in modules:
        rctx.report_progress("Downloading %s" % each.module)
        why = _download(rctx, go, each)
        if why:
            missing.append(why)
        else:
            names += [file.split("/")[-1] for file in each.files]
    if missing:
        rctx.file("missing.txt", "".join([why + "\n" for why in missing]), executable = False)
        names.append("missing.txt")
    rctx.file(
        "BUILD.bazel",
        """filegroup(name = "schemas", srcs = %s, visibility = ["//visibility:public"])\n""" % json.encode(names),
        executable = False,
    )

kubernetes_schemas = repository_rule(
    implementation = _impl,
    doc = "Provides definitions of custom resources.",
)

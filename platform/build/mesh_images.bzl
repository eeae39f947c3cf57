"""What images of services are made of: layers, bills of materials and provenance.

    # mesh/images/BUILD.bazel
    mesh_images(
        name = "images",
        services = {"//services/governor:governor_main": "governor"},
    )

Makes `packages.tar`, the packages that all of the services need, and for each
service its further packages (`governor-packages.tar`), its code (`governor.tar`),
`governor.cdx.json` and `governor.provenance.json`. A Dockerfile puts the layers
on an interpreter.
"""

_PACKAGES = "site-packages/"

# As images.manifest has them.
_APP = "app"
_PACKAGES_IN_IMAGE = _APP + "/packages"

# The one folder that a service writes to, but for /tmp.
_OWN_FOLDER = "var/lib/agentmesh"

def _is_package(file):
    return file.short_path.startswith("../")

def _package_place(file):
    """Returns where a file of @pypi lies in an image."""
    _, folder, path = file.short_path.partition("/" + _PACKAGES)
    if not folder:
        fail("%s is needed to run a service, and is neither of this repository nor of a package." % file.short_path)
    return "%s/%s" % (_PACKAGES_IN_IMAGE, path)

def _code_place(file):
    """Returns where a file of this repository lies: see import_root.bzl for what is cut off."""
    path = file.short_path
    for root in ["platform/", "proto/"]:
        if path.startswith(root):
            path = path[len(root):]
    return "%s/%s" % (_APP, path)

def _manifest(ctx, name, files, place, bill = None):
    """Declares the manifest of a layer: see images.manifest. A `bill` is put into the layer."""
    manifest = ctx.actions.declare_file(name + ".manifest")
    lines = sorted(["%s\t%s" % (place(file), file.path) for file in files])
    if bill:
        lines.append("%s/bill.cdx.json\t%s" % (_APP, bill.path))
    ctx.actions.write(manifest, "".join([line + "\n" for line in lines]))
    return manifest

def _layer(ctx, name, files, manifest, further_arguments = []):
    """Declares the tar of a layer."""
    tar = ctx.actions.declare_file(name + ".tar")
    ctx.actions.run(
        executable = ctx.executable._layer,
        arguments = [manifest.path, tar.path] + further_arguments,
        inputs = files + [manifest],
        outputs = [tar],
        mnemonic = "ImageLayer",
        progress_message = "Packing %s" % tar.short_path,
    )
    return tar

def _mesh_images_impl(ctx):
    needed = {
        name: target[DefaultInfo].default_runfiles.files.to_list()
        for target, name in ctx.attr.services.items()
    }
    packages = {
        name: {file: None for file in files if _is_package(file)}
        for name, files in needed.items()
    }
    names = sorted(packages)
    shared = [
        file
        for file in packages[names[0]]
        if not [name for name in names if file not in packages[name]]
    ]
    shared_manifest = _manifest(ctx, "packages", shared, _package_place)
    shared_layer = _layer(ctx, "packages", shared, shared_manifest)
    outputs = [shared_layer]

    bills = {}
    own = {}
    manifests = {}
    arguments = [ctx.file._wheels.path, shared_manifest.path]
    for name in names:
        own[name] = [file for file in packages[name] if file not in shared]
        manifests[name] = _manifest(ctx, name + "-packages", own[name], _package_place)
        bills[name] = ctx.actions.declare_file(name + ".cdx.json")
        arguments += [name, manifests[name].path, bills[name].path]
    ctx.actions.run(
        executable = ctx.executable._bill,
        arguments = arguments,
        inputs = depset(
            [ctx.file._wheels, shared_manifest] + shared + manifests.values(),
            transitive = [depset(files) for files in own.values()],
        ),
        outputs = bills.values(),
        mnemonic = "ImageBills",
        progress_message = "Writing bills of materials",
    )

    for name in names:
        own_layer = _layer(ctx, name + "-packages", own[name], manifests[name])
        code = [file for file in needed[name] if not _is_package(file)]
        manifest = _manifest(ctx, name, code, _code_place, bill = bills[name])
        code_layer = _layer(ctx, name, code + [bills[name]], manifest, [_OWN_FOLDER])
        layers = [shared_layer, own_layer, code_layer]
        statement = ctx.actions.declare_file(name + ".provenance.json")
        inputs = [ctx.info_file, ctx.file._lock, ctx.file._wheels, bills[name]]
        ctx.actions.run(
            executable = ctx.executable._provenance,
            arguments = [name] + [file.path for file in inputs + [statement] + layers],
            inputs = inputs + layers,
            outputs = [statement],
            mnemonic = "ImageProvenance",
            progress_message = "Writing %s" % statement.short_path,
        )
        outputs += [own_layer, code_layer, bills[name], statement]
    return [DefaultInfo(files = depset(outputs), runfiles = ctx.runfiles(files = outputs))]

mesh_images = rule(
    implementation = _mesh_images_impl,
    attrs = {
        "services": attr.label_keyed_string_dict(
            mandatory = True,
            doc = "The name of each service's image, by the library of its main.py.",
        ),
        "_bill": attr.label(
            default = "//platform/images:bill",
            cfg = "exec",
            executable = True,
        ),
        "_layer": attr.label(
            default = "//platform/images:layer",
            cfg = "exec",
            executable = True,
        ),
        "_lock": attr.label(
            default = "//third_party/python:requirements.lock.txt",
            allow_single_file = True,
        ),
        "_provenance": attr.label(
            default = "//platform/images:provenance",
            cfg = "exec",
            executable = True,
        ),
        "_wheels": attr.label(
            default = "@pypi//:wheels.json",
            allow_single_file = True,
        ),
    },
    doc = "Layers, bills of materials and provenance of the images of services.",
)

"""Builds a program from the Go module proxy inside a repository rule.

A folder with go.mod and go.sum pins the program and all that it is made of.
"""

def build_go_program(rctx, go_mod, package, output, flags = []):
    """Builds a Go program at the versions and hashes of a go.mod and go.sum.

    Args:
      rctx: the repository rule's context.
      go_mod: the path of go.mod; go.sum lies beside it.
      package: the import path of the program's main package.
      output: what to call the program in the repository.
      flags: more of them for `go build`.

    Returns:
      None, or why the program could not be built.
    """
    go = rctx.which("go")
    if not go:
        return "no Go toolchain on PATH"
    if not rctx.path("go.mod").exists:
        rctx.symlink(go_mod, "go.mod")
        rctx.symlink(go_mod.dirname.get_child("go.sum"), "go.sum")
    result = rctx.execute(
        [go, "build", "-trimpath"] + flags + ["-o", output, package],
        environment = {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly",
            # The compiler's own: it has memory to spare, and few seconds.
            "GOGC": "400",
            # The toolchain at hand or none: do not download another one.
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        },
        timeout = 1200,
    )
    return result.stderr.strip() if result.return_code != 0 else None

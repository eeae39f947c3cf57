"""Where Python imports begin: the one rule that all macros share."""

def import_root():
    """Tells the `imports` of a target in the package that is being loaded.

    Folders under platform/ are packages of their own (`meshkit.errors`), since
    `platform` is a module of the standard library. Everything else is imported
    by its path from the repository's root, which Python sees anyway.

    Returns:
      A list for the attribute `imports`.
    """
    folders = native.package_name().split("/")
    if folders[0] != "platform":
        return []
    return ["/".join([".."] * (len(folders) - 1)) or "."]

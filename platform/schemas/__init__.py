"""JSON Schemas that callers write: which are taken, and whether a value satisfies one."""

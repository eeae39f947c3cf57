"""`agentmesh key token`: what the owner of a mesh can make without asking it."""

from datetime import UTC, datetime, timedelta

from cli.credentials import user_name
from cli.invocation import Invocation
from cli.problem import Problem
from meshkit import identity
from meshkit.identity import Role
from tier.access_files import AccessFiles
from tier.access_tokens import SigningKey


def mint(invocation: Invocation, *, role: str, subject: str | None, seconds: float) -> None:
    """Prints a token.

    Raises:
        Problem: There is no key to sign it with, or it cannot be read.
        InvalidField: The tenant or the subject is malformed.
    """
    who = identity.make(invocation.tenant, f"user:{subject or user_name()}", role)
    path = AccessFiles.of(invocation.data_dir).signing_key
    try:
        key = SigningKey.read(path)
    except OSError as error:
        raise Problem(
            f"{path}: cannot be read: {error.strerror}.",
            "A mesh that asks who calls makes it when it starts: `agentmesh up --tier staging`.",
        ) from error
    except ValueError as error:
        raise Problem(f"{path}: is no key that signs tokens: {error}") from error
    now = datetime.now(UTC)
    life = timedelta(seconds=seconds)
    text = key.token(
        subject=who.caller.removeprefix("user:"),
        tenant=who.tenant,
        role=Role(role),
        now=now,
        life=life,
    )
    if invocation.terminal.as_json:
        expires = (now + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {"token": text, "tenant": who.tenant, "caller": who.caller}
        invocation.terminal.document({**document, "role": role, "expire_time": expires})
    else:
        invocation.terminal.say(text)

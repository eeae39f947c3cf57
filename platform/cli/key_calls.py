"""The calls of `agentmesh key`, and what they print."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentmesh.access.v1.access_service_pb2 import (
    ApiKey,
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    Role,
)
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.key_view import show_key, show_keys
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.problem import Problem
from meshkit.api_key import PREFIX, ApiKeyText, MalformedApiKey, is_key_id


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a key should be."""

    name: str
    role: Role
    scopes: Sequence[str]
    # None for one that does not end by itself.
    expires_seconds: float | None

    def key(self, now: datetime) -> ApiKey:
        """As the contract has it."""
        made = ApiKey(display_name=self.name, role=self.role, scopes=self.scopes)
        if self.expires_seconds is not None:
            try:
                made.expire_time.FromDatetime(now + timedelta(seconds=self.expires_seconds))
            except (OverflowError, ValueError) as error:
                raise Problem("--expires is too far ahead.", exit_code=2) from error
        return made


def create(invocation: Invocation, wanted: Wanted, out: Path | None, request_id: str) -> None:
    """Makes a key, and shows it or writes it to the file `out`, which must be new."""
    if out is not None and out.exists():
        raise Problem(f"{out} is there already.", "Name a new file with --out.", exit_code=2)
    request = CreateApiKeyRequest(
        parent=invocation.parent,
        api_key=wanted.key(datetime.now(UTC)),
        # A call that breaks is repeated under the same id, and makes one key.
        request_id=request_id or f"cli-{uuid.uuid4()}",
    )

    async def run(gateway: Gateway) -> CreateApiKeyResponse:
        return await gateway.access.CreateApiKey(request, timeout=CALL_SECONDS)

    answer = call(address_of(invocation), invocation.tenant, run)
    if not answer.text:
        raise Problem(
            f"{answer.api_key.name} was made by an earlier call with this --request-id, and its"
            " text was shown then.",
            f"If it is lost: `{invocation.command('key', 'revoke', answer.api_key.name)}`, and"
            " make another.",
        )
    if out is not None:
        _write(out, answer.text)
    if invocation.terminal.as_json:
        shown = {} if out is not None else {"text": answer.text}
        invocation.terminal.document({"api_key": to_plain(answer.api_key), **shown})
        return
    show_key(invocation.terminal, answer.api_key, "" if out is not None else answer.text)
    if out is not None:
        invocation.terminal.say(f"The key is in {out}: call with --key {out}.")
    else:
        invocation.terminal.warn("The key is not shown again: keep it where only its user reads.")


def list_keys(invocation: Invocation, *, ended: bool, limit: int) -> None:
    """Prints the tenant's keys, by id."""

    async def run(gateway: Gateway) -> list[ApiKey]:
        return await collect(
            gateway.access.ListApiKeys,
            ListApiKeysRequest(parent=invocation.parent),
            lambda page: page.api_keys,
            limit=limit,
        )

    found = call(address_of(invocation), invocation.tenant, run)
    shown = [each for each in found if ended or each.state == ApiKey.STATE_ACTIVE]
    if invocation.terminal.as_json:
        invocation.terminal.document({"api_keys": [to_plain(each) for each in shown]})
    else:
        show_keys(invocation.terminal, shown, hidden=len(found) - len(shown))


def revoke(invocation: Invocation, given: Sequence[str]) -> None:
    """Ends keys, all that can be."""
    names = [_name(invocation, each) for each in given]

    async def run(gateway: Gateway) -> list[ApiKey]:
        revoked: list[ApiKey] = []
        for name in names:
            answer = await gateway.access.RevokeApiKey(
                RevokeApiKeyRequest(name=name), timeout=CALL_SECONDS
            )
            revoked.append(answer.api_key)
        return revoked

    keys = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"api_keys": [to_plain(each) for each in keys]})
        return
    for each in keys:
        invocation.terminal.say(f"{each.name} is revoked.")


def _name(invocation: Invocation, given: str) -> str:
    """The name of a key that may be given by its text, as who found one somewhere has it."""
    if given.startswith(PREFIX):
        try:
            given = ApiKeyText.parse(given).key_id
        except MalformedApiKey as error:
            raise Problem(str(error), exit_code=2) from None
    elif "/" not in given and not is_key_id(given):
        raise Problem(
            f"{given!r} is no API key's id, which is 8 to 40 lower-case letters or digits.",
            "See `agentmesh key list` for the keys there are, by id and by what people call them.",
            exit_code=2,
        )
    return invocation.name("apiKeys", given)


def _write(out: Path, text: str) -> None:
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(f"{text}\n")

"""API keys and tokens on the command line."""

import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2_grpc import AccessServiceServicer
from cli.app import app
from cli.command_mesh import Commands, commands_for
from meshkit.api_key import ApiKeyText
from meshkit.clock import SystemClock
from meshkit.errors import ApiKeyNotFound
from meshkit.ids import RandomIds
from tier import access_bootstrap

pytest_plugins = ["cli.fixture_zone"]

# Times are read in UTC.
pytestmark = pytest.mark.usefixtures("utc")

_TEXT = ApiKeyText("abcdefgh", "s" * 43).text


class _Access(AccessServiceServicer):
    """Keys by name; every new one has the same text."""

    def __init__(self) -> None:
        self.stored: dict[str, pb.ApiKey] = {}
        self.requests: list[pb.CreateApiKeyRequest] = []
        # Whether the answers of calls were lost before.
        self.repeated = False

    def add(self, key_id: str, **fields: Any) -> pb.ApiKey:
        key = pb.ApiKey(
            name=f"tenants/default/apiKeys/{key_id}",
            creator="user:ann",
            ending="ssss",
            **fields,
        )
        key.state = key.state or pb.ApiKey.STATE_ACTIVE
        key.role = key.role or pb.ROLE_USER
        self.stored[key.name] = key
        return key

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Any
    ) -> pb.CreateApiKeyResponse:
        self.requests.append(request)
        key = self.add("abcdefgh")
        key.MergeFrom(request.api_key)
        return pb.CreateApiKeyResponse(api_key=key, text="" if self.repeated else _TEXT)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Any
    ) -> pb.ListApiKeysResponse:
        return pb.ListApiKeysResponse(api_keys=self.stored.values())

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: Any
    ) -> pb.RevokeApiKeyResponse:
        if request.name not in self.stored:
            raise ApiKeyNotFound(f"There is no API key {request.name!r}.")
        self.stored[request.name].state = pb.ApiKey.STATE_REVOKED
        return pb.RevokeApiKeyResponse(api_key=self.stored[request.name])


@pytest.fixture
async def access() -> _Access:
    return _Access()


@pytest.fixture
async def commands(access: _Access) -> AsyncIterator[Commands]:
    async with commands_for(AccessService=access) as commands:
        yield commands


async def test_a_key_is_made_and_shown_once(commands: Commands, access: _Access) -> None:
    """Every option arrives; the text is on stdout, and the advice is not."""
    before = datetime.now(UTC)
    result = await commands.run(
        "key", "create", "nightly", "--role", "operator", "--scope", "tasks:*",
        "--scope", "docs:read", "--expires", "2h",
    )  # fmt: skip

    assert result.exit_code == 0
    assert _TEXT in result.stdout
    assert "until" not in result.stdout
    assert result.stderr == "The key is not shown again: keep it where only its user reads.\n"
    (request,) = access.requests
    assert request.parent == "tenants/default"
    assert request.request_id.startswith("cli-")
    assert request.api_key.display_name == "nightly"
    assert request.api_key.role == pb.ROLE_OPERATOR
    assert list(request.api_key.scopes) == ["tasks:*", "docs:read"]
    ends = request.api_key.expire_time.ToDatetime(tzinfo=UTC)
    assert timedelta() <= ends - before - timedelta(hours=2) < timedelta(seconds=30)


async def test_json_has_the_text(commands: Commands) -> None:
    """So that a script can take it."""
    result = await commands.run("key", "create", "--json")
    document = json.loads(result.stdout)
    assert document["text"] == _TEXT
    assert document["api_key"]["name"] == "tenants/default/apiKeys/abcdefgh"
    assert result.stderr == ""


async def test_a_key_goes_into_a_file(commands: Commands, tmp_path: Path) -> None:
    """Which its owner alone may read; nothing of the secret is shown, in JSON neither."""
    out = tmp_path / "ci.key"
    result = await commands.run("key", "create", "--out", str(out))

    assert result.exit_code == 0
    assert _TEXT not in result.output
    assert out.read_text() == f"{_TEXT}\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert f"The key is in {out}: call with --key {out}." in result.stdout
    again = await commands.run("key", "create", "--out", str(tmp_path / "2.key"), "--json")
    assert "text" not in json.loads(again.stdout)


async def test_a_file_is_not_overwritten(
    commands: Commands, access: _Access, tmp_path: Path
) -> None:
    """No key is made then."""
    out = tmp_path / "ci.key"
    out.write_text("another")
    result = await commands.run("key", "create", "--out", str(out))

    assert result.exit_code == 2
    assert result.stderr == f"error: {out} is there already. Name a new file with --out.\n"
    assert out.read_text() == "another"
    assert access.requests == []


async def test_a_repeat_shows_no_text(commands: Commands, access: _Access) -> None:
    """Where an earlier call got it, the command says how to go on."""
    access.repeated = True
    result = await commands.run("key", "create", "--request-id", "r-1")

    assert result.exit_code == 1
    assert result.stderr == (
        "error: tenants/default/apiKeys/abcdefgh was made by an earlier call with this"
        " --request-id, and its text was shown then. If it is lost: `agentmesh key revoke"
        f" tenants/default/apiKeys/abcdefgh --gateway {commands.gateway}`, and make another.\n"
    )


async def test_an_end_that_no_calendar_has(commands: Commands, access: _Access) -> None:
    """It is refused before anybody is asked."""
    result = await commands.run("key", "create", "--expires", "99999999d")
    assert (result.exit_code, result.stderr) == (2, "error: --expires is too far ahead.\n")
    assert access.requests == []


async def test_the_list_is_a_table(commands: Commands, access: _Access) -> None:
    """With everything that tells one key from another; ended ones on demand."""
    access.add(
        "aaaaaaaa", display_name="ci", scopes=["tasks:read"],
        last_use_time=datetime(2026, 11, 20, 8, 30, tzinfo=UTC),
    )  # fmt: skip
    access.add("bbbbbbbb", role=pb.ROLE_ADMIN, expire_time=datetime(2030, 1, 1, tzinfo=UTC))
    access.add(
        "cccccccc", state=pb.ApiKey.STATE_REVOKED, revoker="user:bob",
        revoke_time=datetime(2026, 11, 19, tzinfo=UTC),
    )  # fmt: skip
    access.add(
        "dddddddd",
        state=pb.ApiKey.STATE_EXPIRED,
        expire_time=datetime(2026, 11, 18, tzinfo=UTC),
    )

    result = await commands.run("key", "list")
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert rows == [
        "KEY NAME ENDING ROLE SCOPES STATE LAST USED MADE BY",
        "aaaaaaaa ci …ssss user tasks:read active 2026-11-20 08:30:00 user:ann",
        "bbbbbbbb - …ssss admin all until 2030-01-01 00:00:00 never user:ann",
    ]
    assert result.stderr == "2 keys that ended: see --all.\n"

    result = await commands.run("key", "list", "--all")
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()[3:]]
    assert rows == [
        "cccccccc - …ssss user all revoked 2026-11-19 00:00:00 by user:bob never user:ann",
        "dddddddd - …ssss user all expired 2026-11-18 00:00:00 never user:ann",
    ]
    assert result.stderr == ""

    result = await commands.run("key", "list", "--json")
    names = [each["name"] for each in json.loads(result.stdout)["api_keys"]]
    assert names == ["tenants/default/apiKeys/aaaaaaaa", "tenants/default/apiKeys/bbbbbbbb"]


async def test_an_empty_list_says_so(commands: Commands, access: _Access) -> None:
    """Whether there were keys or not."""
    assert (await commands.run("key", "list")).stdout == "There are no keys.\n"
    access.add("aaaaaaaa", state=pb.ApiKey.STATE_EXPIRED)
    assert (await commands.run("key", "list")).stdout == "There are no keys in force.\n"


@pytest.mark.parametrize("given", ["abcdefgh", "tenants/default/apiKeys/abcdefgh", _TEXT])
async def test_a_key_is_revoked_however_it_is_named(
    commands: Commands, access: _Access, given: str
) -> None:
    """By id, by name, or by its text: as who finds one on the street has it."""
    access.add("abcdefgh")
    result = await commands.run("key", "revoke", given)
    assert (result.exit_code, result.stdout) == (
        0,
        "tenants/default/apiKeys/abcdefgh is revoked.\n",
    )
    assert access.stored["tenants/default/apiKeys/abcdefgh"].state == pb.ApiKey.STATE_REVOKED


async def test_a_text_that_is_no_key(commands: Commands) -> None:
    """It is told what one looks like, without the text itself."""
    result = await commands.run("key", "revoke", "amk_secret")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: An API key is amk_, an id of lower-case letters and digits, _ and 43 more"
        " characters, all without blanks.\n"
    )


@pytest.mark.parametrize("given", ["nope", "nightly-ci", ""])
async def test_a_name_that_people_gave_is_no_id(commands: Commands, given: str) -> None:
    """It is told what an id looks like, and where to find it."""
    result = await commands.run("key", "revoke", given)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {given!r} is no API key's id, which is 8 to 40 lower-case letters or digits. See"
        " `agentmesh key list` for the keys there are, by id and by what people call them.\n"
    )


async def test_an_unknown_key(commands: Commands) -> None:
    """The command points to the list."""
    result = await commands.run("key", "revoke", "gone1234")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: There is no API key 'tenants/default/apiKeys/gone1234'. (API_KEY_NOT_FOUND)"
        " See `agentmesh key list` for the keys there are.\n"
    )


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="agentmesh")


@pytest.fixture
def owned(tmp_path: Path) -> access_bootstrap.AccessFiles:
    """The credentials of a mesh that was started once."""
    return access_bootstrap.prepare(tmp_path, clock=SystemClock(), ids=RandomIds())


class TestToken:
    """What the owner of a data directory makes without asking anybody."""

    def test_is_signed_by_the_mesh(
        self, tmp_path: Path, owned: access_bootstrap.AccessFiles
    ) -> None:
        """It says who calls, for whom, as what and how long."""
        result = _run(
            "key", "token", "--data-dir", str(tmp_path), "--tenant", "acme", "--role", "operator",
            "--subject", "ann", "--expires", "10m",
        )  # fmt: skip

        (known,) = jwt.PyJWKSet.from_dict(json.loads(owned.jwks.read_text())).keys
        claims: dict[str, Any] = jwt.decode(
            result.stdout.strip(), known, algorithms=["ES256"], audience="agentmesh"
        )
        named = {key: claims[key] for key in ("iss", "tenant", "sub", "role")}
        assert named == {"iss": "agentmesh", "tenant": "acme", "sub": "ann", "role": "operator"}
        assert claims["exp"] - claims["iat"] == 600

    def test_json(self, tmp_path: Path, owned: access_bootstrap.AccessFiles) -> None:
        """The same, with what a script wants to know of it."""
        result = _run("key", "token", "--data-dir", str(tmp_path), "--subject", "ann", "--json")
        document = json.loads(result.stdout)
        assert document.pop("token").count(".") == 2
        assert document.pop("expire_time")
        assert document == {"tenant": "default", "caller": "user:ann", "role": "user"}

    def test_is_short(self, tmp_path: Path, owned: access_bootstrap.AccessFiles) -> None:
        """Nobody can revoke it, so it does not last."""
        result = _run("key", "token", "--data-dir", str(tmp_path), "--expires", "25h")
        assert result.exit_code == 2
        assert result.stderr == (
            "error: Invalid value for --expires: a token is good for 24h at most; make a key"
            " instead. See `agentmesh key token --help`.\n"
        )

    def test_takes_the_signing_key(self, tmp_path: Path) -> None:
        """Without a mesh's data directory there is nothing to sign with."""
        result = _run("key", "token", "--data-dir", str(tmp_path))
        assert result.exit_code == 1
        assert result.stderr == (
            f"error: {tmp_path}/access/signing.pem: cannot be read: No such file or directory. A"
            " mesh that asks who calls makes it when it starts: `agentmesh up --tier staging`.\n"
        )

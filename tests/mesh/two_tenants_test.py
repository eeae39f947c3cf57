"""Nothing of one tenant's is there for another.

A tenant does everything that the contracts let it do. Another one then sends the same requests,
and puts every name of the first one's into every field that may hold a name.
"""

import asyncio
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from meshkit.errors import from_status
from meshkit.identity import Role
from meshtest.eventually import eventually
from tests.mesh.guarded_mesh import RPCS, GuardedMesh
from tests.mesh.rpc_call import Answer, Rpc, every_rpc, text_fields
from tests.mesh.tenant_story import END, SECRET, STORY, Step
from tier import policy_contracts
from tier.policy import roles_from

pytest_plugins = ["tests.mesh.guarded_fixture"]

# What a field is called that may name a resource, or whose it is.
_REFERENCES: Final = frozenset(
    {"name", "names", "parent", "agent", "session", "task", "tasks", "parent_task", "fact"}
    | {"document", "documents", "schedule", "last_task", "tenant", "lease", "key", "budget"}
)
# What makes a call a repeat of another, or a resource the same as another.
_KEYS: Final = frozenset(
    {"request_id", "idempotency_key", "spend_key", "agent_id", "schedule_id", "tool_id"}
)
_READS: Final = re.compile(r"(Get|List|Search|Recall|Query|Explain|Export|WatchAlerts)")
# What changes by itself: leases are given back, keys are used, and time passes.
_VOLATILE: Final = re.compile(
    r"'(reserved_micros|next_page_token|last_use_time)': '[^']*'(, )?|, 'committed_micros': '[^']*'"
)
_PATIENCE_SECONDS: Final = 60.0
_POLICY: Final = policy_contracts.shipped()


@dataclass
class _Mesh:
    """A mesh in which one tenant has something, and another one tries to get at it."""

    guarded: GuardedMesh
    # Requests of the first tenant, in order.
    sent: list[tuple[Rpc, Message]]
    # All its resources, and its own name.
    names: Sequence[str]
    # Requests that will end resources.
    end: list[tuple[Rpc, Message]]

    async def call(self, rpc: Rpc, request: Message, tenant: str, role: Role = Role.USER) -> Answer:
        """What comes of a call with a key of that role, or of the one that the RPC takes.

        A batch of one item has that item's outcome.
        """
        lowest = _POLICY.role_of(rpc.path)
        enough = role if role in roles_from(lowest) else lowest
        key = await self.guarded.usual(enough, tenant=tenant)
        return _unpacked(await self.guarded.call(rpc, key, request))

    async def everything(self) -> dict[str, str]:
        """What the first tenant reads, by request."""
        found: dict[str, str] = {}
        for rpc, request in self.sent:
            if _READS.match(rpc.method.name):
                answer = await self.call(rpc, request, "acme")
                read = [answer.code, *(_fields(each) for each in answer.answers)]
                found[f"{rpc.path} {request}"] = _VOLATILE.sub("", str(read))
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(guarded: GuardedMesh) -> _Mesh:
    """A mesh in which the tenant acme has done everything that its contracts offer."""
    mesh = _Mesh(guarded, [], (), [])
    await _try_batch_tasks_once(guarded)
    await _fill(mesh)
    await _come_to_rest(mesh)
    return mesh


async def _try_batch_tasks_once(mesh: GuardedMesh) -> None:
    """So that there is a dead letter soon."""
    policy = (await mesh.admin("GetQueuePolicy", {}))["policy"]
    for lane in policy["lanes"]:
        if lane["lane"] == "LANE_BATCH":
            lane["max_attempts"] = 1
    await mesh.admin("SetQueuePolicy", {"policy": policy})


async def _fill(mesh: _Mesh) -> None:
    kept = {"tenant": "acme"}
    names: set[str] = {"acme", "tenants/acme"}
    for step in STORY:
        rpc = RPCS[step.rpc]
        request = rpc.request(step.filled(kept))
        answer = await _accepted(mesh, rpc, request)
        mesh.sent.append((rpc, request))
        names |= {each for each in _texts([request, *answer.answers]) if _is_name(each)}
        kept |= _kept(step, answer)
    mesh.end = [(RPCS[each.rpc], RPCS[each.rpc].request(each.filled(kept))) for each in END]
    mesh.names = sorted(names)


async def _accepted(mesh: _Mesh, rpc: Rpc, request: Message) -> Answer:
    """What comes of a request that is right, a moment later where it follows from others."""
    answers: list[Answer] = []

    async def right() -> bool:
        answers.append(await mesh.call(rpc, request, "acme"))
        return _is_accepted(answers[-1])

    try:
        await eventually(right, _PATIENCE_SECONDS)
    except Exception as error:
        raise AssertionError(f"{rpc.path} {request}: {answers[-1]}") from error
    return answers[-1]


async def _come_to_rest(mesh: _Mesh) -> None:
    """Returns when tasks have ended, and what they cost is in the ledger."""
    read: list[dict[str, str]] = []

    async def rests() -> bool:
        read.append(await mesh.everything())
        return len(read) > 5 and all(each == read[-1] for each in read[-5:])

    await eventually(rests, _PATIENCE_SECONDS)


def _is_accepted(answer: Answer) -> bool:
    for_services = "only services may" in answer.message
    return answer.code in ("OK", "UNIMPLEMENTED") or for_services


def _kept(step: Step, answer: Answer) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, way in step.keep.items():
        for each in answer.answers:
            fields = _fields(each)
            if found := _at(fields, way.split(".")):
                kept[name] = found
    return kept


def _at(value: Any, way: Sequence[str]) -> str:
    """The text there; of a list, in its first member."""
    if isinstance(value, list):
        value = cast(list[Any], value)[0]
    if not way:
        return str(value)
    return _at(value[way[0]], way[1:]) if way[0] in value else ""


def test_the_story_leaves_no_rpc_out() -> None:
    """Whoever adds an RPC about a tenant's resources says in tenant_story.py how it is called."""
    told = {each.rpc for each in (*STORY, *END)}
    missing = [
        each.path
        for each in every_rpc()
        if each.method.name not in told and any(_is_reference(way) for way in text_fields(each))
    ]
    assert missing == []
    # Reflection has two names, for the same method.
    names = [each.method.name for each in every_rpc() if "grpc.reflection.v1." not in each.path]
    assert len(set(names)) == len(names), "two RPCs have the same name"


@pytest.mark.parametrize("role", [Role.USER, Role.OPERATOR])
@pytest.mark.asyncio(loop_scope="session")
async def test_another_tenants_requests_are_refused(mesh: _Mesh, role: Role) -> None:
    """Word for word the same requests are forbidden to who acts for another tenant."""
    let_in = {
        f"{rpc.path} {request}": str(answer)
        for rpc, request in [*mesh.sent, *mesh.end]
        if "tenants/acme" in str(request)
        for answer in [await mesh.call(rpc, request, "intruder", role)]
        if answer.code not in ("PERMISSION_DENIED", "UNIMPLEMENTED") or answer.answers
    }
    assert let_in == {}


@pytest.mark.asyncio(loop_scope="session")
async def test_all_tenants_are_for_operators(mesh: _Mesh) -> None:
    """Where a parent may stand for all tenants, a user is refused, and an operator is not."""
    opened: dict[Role, set[str]] = {Role.USER: set(), Role.OPERATOR: set()}
    for rpc, request in [*mesh.sent, *mesh.end]:
        if "parent" not in request.DESCRIPTOR.fields_by_name:
            continue
        for_all: Any = type(request)()
        for_all.CopyFrom(request)
        for_all.parent = "tenants/-"
        _freshen(for_all, "all")
        for role, paths in opened.items():
            if (await mesh.call(rpc, for_all, "acme", role)).code == "OK":
                paths.add(rpc.method.name)
    assert opened == {
        Role.USER: set(),
        Role.OPERATOR: {"GetQueueStats", "ListBudgets", "QuerySpend", "ExportSpend", "WatchAlerts"},
    }


@pytest.mark.asyncio(loop_scope="session")
async def test_one_tenants_keys_repeat_nothing_for_another(mesh: _Mesh) -> None:
    """The same ids, keys and texts for another tenant are its own, and find nothing."""
    before = await mesh.everything()
    told: dict[str, str] = {}
    for rpc, request in [*mesh.sent, *mesh.end]:
        own = _translated(request)
        answer = await mesh.call(rpc, own, "intruder")
        texts = " ".join(_texts(answer.answers))
        if SECRET in texts or "acme" in texts.lower() or _is_repeat(answer):
            told[f"{rpc.path} {own}"] = str(answer.answers)
    assert told == {}
    assert await mesh.everything() == before


@pytest.mark.asyncio(loop_scope="session")
async def test_names_of_another_tenant_name_nothing(mesh: _Mesh) -> None:
    """One of its names of each kind, in any field, is as good as one that nobody has."""
    before = await mesh.everything()
    told: dict[str, tuple[str, str]] = {}

    async def try_(rpc: Rpc, cases: Iterable[tuple[str, str, Message, Message]]) -> int:
        # One after the other: two at once would be in each other's way.
        tried = 0
        for way, name, real, absent in cases:
            tried += 1
            answer = await mesh.call(rpc, real, "intruder")
            if answer.code == "PERMISSION_DENIED" and not answer.answers:
                continue
            other = await mesh.call(rpc, absent, "intruder")
            if SECRET in " ".join(_texts(answer.answers)) or _outcome(answer) != _outcome(other):
                told[f"{rpc.path} {way}={name}"] = (str(answer), str(other))
        return tried

    first = {rpc.path: (rpc, request) for rpc, request in reversed([*mesh.sent, *mesh.end])}
    tried = await asyncio.gather(
        *(try_(rpc, _cases(rpc, request, mesh.names)) for rpc, request in first.values())
    )
    assert sum(tried) > 1000
    assert told == {}
    assert await mesh.everything() == before


@pytest.mark.asyncio(loop_scope="session")
async def test_the_owner_still_ends_what_it_has(mesh: _Mesh) -> None:
    """What was refused to the other tenant is right when its owner asks for it."""
    wrong: dict[str, str] = {}
    for rpc, request in mesh.end:
        answer = await mesh.call(rpc, request, "acme")
        # A task that has ended takes no signal, and one that was put back is no dead letter.
        if not _is_accepted(answer) and answer.reason != "TASK_STATE":
            wrong[f"{rpc.path} {request}"] = str(answer)
    assert wrong == {}


def _cases(
    rpc: Rpc, request: Message, names: Sequence[str]
) -> Iterator[tuple[str, str, Message, Message]]:
    """A request of the other tenant's own, with one field that names the first one's resource.

    And the same with a name that nobody has.
    """
    number = itertools.count()
    kinds = list({_kind(each): each for each in names}.values())
    own = _translated(request)
    for way in filter(_is_reference, text_fields(rpc)):
        for name in kinds:
            both = _with(own, way, name), _with(own, way, _absent(name))
            for each in both:
                _freshen(each, f"try-{rpc.method.name.lower()}-{next(number)}")
            yield ".".join(field.name for field in way), name, *both


def _is_reference(way: Sequence[FieldDescriptor]) -> bool:
    return way[-1].name in _REFERENCES


def _is_name(text: str) -> bool:
    return re.fullmatch(r"tenants/acme(/[A-Za-z]+/[^/\s]+)*", text) is not None


def _kind(name: str) -> tuple[str, bool]:
    """Its collection, and whether it names a version."""
    return "/".join(name.split("/")[::2]) if "/" in name else name, "@" in name


def _absent(name: str) -> str:
    """A name of the same shape that nobody has."""
    head, _, last = name.rpartition("/")
    if name in ("acme", "tenants/acme"):
        return name.replace("acme", "nobody")
    stem, at, version = last.partition("@")
    turned = "".join(str((int(each) + 3) % 10) if each.isdigit() else each for each in stem)
    return f"{head}/{turned if turned != stem else stem + '-0'}{at}{version}"


def _translated(request: Message) -> Message:
    """The same request for the other tenant, with texts of its own."""
    text = json_format.MessageToJson(request, preserving_proto_field_name=True)
    for old, new in (("acme", "intruder"), (SECRET, "walrus"), ("Pelican", "Walrus")):
        text = text.replace(old, new)
    # The document's content, which JSON has in base64.
    return json_format.Parse(text.replace(_CONTENT, "QSB3YWxydXMu"), type(request)())


_CONTENT: Final = "VGhlIHBlbGljYW4gbmVzdHMgaW4gQXByaWwu"


def _with(request: Message, way: Sequence[FieldDescriptor], text: str) -> Message:
    changed = type(request)()
    changed.CopyFrom(request)
    at: Any = changed
    for field in way[:-1]:
        at = getattr(at, field.name)
        if field.is_repeated:
            at = at[0] if len(at) else at.add()
    if way[-1].is_repeated:
        del getattr(at, way[-1].name)[:]
        getattr(at, way[-1].name).append(text)
    else:
        setattr(at, way[-1].name, text)
    return changed


def _freshen(message: Any, key: str) -> None:
    """Makes the request no repeat of another."""
    for field, value in message.ListFields():
        if field.name in _KEYS:
            setattr(message, field.name, key)
        elif (
            field.type == FieldDescriptor.TYPE_MESSAGE
            and not field.message_type.GetOptions().map_entry
        ):
            for each in value if field.is_repeated else [value]:
                _freshen(each, key)


def _outcome(answer: Answer) -> tuple[str, str]:
    return answer.code, answer.reason


def _is_repeat(answer: Answer) -> bool:
    fields = [_fields(each) for each in answer.answers]
    return bool(re.search(r"'replayed': True|CACHE_OUTCOME_(EXACT|SEMANTIC)", str(fields)))


def _fields(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _unpacked(answer: Answer) -> Answer:
    for each in answer.answers:
        for result in getattr(each, "results", ()):
            if "error" in result.DESCRIPTOR.fields_by_name and result.HasField("error"):
                error = from_status(result.error)
                return Answer(error.code.name, error.reason, error.message, ())
    return answer


def _texts(value: Iterable[Any]) -> Iterator[str]:
    """Every text in the messages."""
    for each in value:
        if isinstance(each, Message):
            yield from _texts([_fields(each)])
        elif isinstance(each, Mapping):
            yield from _texts(each.values())  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(each, list):
            yield from _texts(each)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(each, str):
            yield each

"""Tests of the policy file's reader."""

from pathlib import Path
from textwrap import dedent

import pytest

from meshkit.identity import Role
from tier.parts import PARTS
from tier.policy import BadPolicy, Contracts, Edge, Policy, load, read, roles_from
from tier.policy_contracts import offered, shipped

_CONTRACTS = Contracts(
    services={"a.Letters": ("Read", "Write"), "a.Stamps": ("Print",)},
    parts={"desk": ("a.Letters",), "press": ("a.Stamps",), "clerk": ()},
)
_GOOD = """\
calls:
  clerk:
    desk:
      a.Letters: [Read]
roles:
  user:
    a.Letters: [Read, Write]
  operator:
    a.Stamps: [Print]
scopes:
  letters:read:
    a.Letters: [Read]
  letters:write:
    a.Letters: [Write]
  print:
    a.Stamps:
      - Print
"""


def test_a_policy_says_who_may_call_what() -> None:
    """What stands in the file is found by caller, by role and by scope."""
    policy = load(_GOOD, _CONTRACTS)
    assert policy == Policy(
        edges=(Edge("clerk", "desk", ("/a.Letters/Read",)),),
        roles={
            Role.USER: ("/a.Letters/Read", "/a.Letters/Write"),
            Role.OPERATOR: ("/a.Stamps/Print",),
            Role.ADMIN: (),
        },
        scopes={
            "letters:read": ("/a.Letters/Read",),
            "letters:write": ("/a.Letters/Write",),
            "print": ("/a.Stamps/Print",),
        },
    )
    assert policy.role_of("/a.Stamps/Print") is Role.OPERATOR
    assert policy.scope_of("/a.Letters/Write") == "letters:write"
    assert policy.paths() == ("/a.Letters/Read", "/a.Letters/Write", "/a.Stamps/Print")
    with pytest.raises(KeyError):
        policy.role_of("/a.Letters/Burn")


def test_a_role_may_do_what_lower_roles_may() -> None:
    """Admins are operators, and operators are users."""
    assert roles_from(Role.USER) == (Role.USER, Role.OPERATOR, Role.ADMIN)
    assert roles_from(Role.ADMIN) == (Role.ADMIN,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "a.Letters: [Read, Write]",
            "a.Letters: [Read]",
            "p.yaml:6: roles: a.Letters/Write is missing: say in whose list it is.",
        ),
        (
            "      - Print\n",
            "      - Print\n  again:\n    a.Stamps: [Print]\n",
            "p.yaml:19: scopes.again: a.Stamps/Print stands in scopes.print already (line 17).",
        ),
        (
            "a.Letters: [Read, Write]",
            "a.Letters: [Read, Wirte]",
            "p.yaml:7: roles.user.a.Letters: a.Letters has no RPC 'Wirte'.",
        ),
        (
            "a.Letters: [Read, Write]",
            "a.Letters: [Read, Write, Read]",
            "p.yaml:7: roles.user.a.Letters: Read stands there twice.",
        ),
        (
            "a.Letters: [Read, Write]",
            "a.Letters: all",
            "p.yaml:7: roles.user.a.Letters: must be a list of RPCs.",
        ),
        (
            "a.Letters: [Read, Write]",
            "a.Letters: [Read, [Write]]",
            "p.yaml:7: roles.user.a.Letters: must be a name.",
        ),
        (
            "    a.Stamps: [Print]\n",
            "    a.Stumps: [Print]\n",
            "p.yaml:9: roles.operator: 'a.Stumps' is unknown: it must be one of a.Letters,"
            " a.Stamps.",
        ),
        (
            "  operator:",
            "  boss:",
            "p.yaml:8: roles: 'boss' is unknown: it must be one of user, operator, admin.",
        ),
        (
            "  operator:",
            "  user:",
            "p.yaml:8: roles: 'user' stands there twice.",
        ),
        (
            "  print:",
            "  Print it:",
            "p.yaml:15: scopes: 'Print it' is unknown: a scope is of lower-case letters, digits,"
            " `:` and `-`.",
        ),
        (
            "    desk:",
            "    shelf:",
            "p.yaml:3: calls.clerk: 'shelf' is unknown: it must be one of desk, press, clerk.",
        ),
        (
            "    desk:\n      a.Letters: [Read]",
            "    press:\n      a.Letters: [Read]",
            "p.yaml:4: calls.clerk.press: 'a.Letters' is unknown: it must be one of a.Stamps.",
        ),
        (
            "  clerk:\n    desk:",
            "  desk:\n    desk:",
            "p.yaml:4: calls.desk.desk: a service does not call itself.",
        ),
        ("scopes:", "scope:", "p.yaml:10: 'scope' is unknown: it must be one of calls, roles,"),
        ("calls:\n", "calls: [\n", "p.yaml:3: is no YAML: "),
    ],
)
def test_a_mistake_is_told_by_line_and_field(old: str, new: str, message: str) -> None:
    """The error says where the mistake is, and what is expected there."""
    assert old in _GOOD
    with pytest.raises(BadPolicy) as caught:
        load(_GOOD.replace(old, new, 1), _CONTRACTS, name="p.yaml")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml:1: is empty; it must have calls, roles, scopes."),
        ("calls", "p.yaml:1: must be a mapping."),
        ("calls: {}\nroles: {}", "p.yaml:1: scopes: is missing."),
    ],
)
def test_a_file_without_its_sections_is_refused(text: str, message: str) -> None:
    """A policy has all its three sections."""
    with pytest.raises(BadPolicy) as caught:
        load(dedent(text), _CONTRACTS, name="p.yaml")
    assert str(caught.value) == message


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """What is no text is a bad policy, too; and what would be one is named."""
    binary = tmp_path / "policy.yaml"
    binary.write_bytes(b"\xff")
    why = {
        tmp_path / "nothing.yaml": "cannot be read: No such file or directory.",
        tmp_path: "cannot be read: Is a directory.",
        binary: "is not UTF-8 text: invalid byte at offset 0.",
    }
    for file, text in why.items():
        with pytest.raises(BadPolicy) as caught:
            read(file, _CONTRACTS)
        assert str(caught.value) == f"{file}: {text} A policy is a file such as mesh/policy.yaml."


def test_what_no_yaml_may_hold_is_told(tmp_path: Path) -> None:
    """Also where the reader knows no line of it."""
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"calls: \0\n")
    with pytest.raises(BadPolicy, match=r"policy\.yaml: is no YAML: .*control characters"):
        read(file, _CONTRACTS)


def test_the_shipped_policy_places_every_rpc() -> None:
    """Whoever adds an RPC says in mesh/policy.yaml who may call it; this fails until then."""
    contracts = offered()
    every = {f"/{service}/{each}" for service, all_ in contracts.services.items() for each in all_}
    policy = shipped()
    assert set(policy.paths()) == every
    assert {path for paths in policy.scopes.values() for path in paths} == every


def test_the_shipped_policy_has_the_edges_of_the_parts() -> None:
    """The tiers start with the same edges that the policy allows."""
    edges = {(each.caller, each.callee) for each in shipped().edges}
    assert edges == {(part.name, callee) for part in PARTS for callee in part.calls}


def test_what_parts_serve_is_offered() -> None:
    """The gateway knows the contract of every service that a part serves."""
    contracts = offered()
    served = {service for part in PARTS for service in part.services}
    assert served == {each for each in contracts.services if not each.startswith("grpc.")}

"""The Dockerfile, as far as it is ours to look at."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from images.layer import USER

# The only image from elsewhere: by its digest, whatever it is called.
BASE: Final = "${BASE}@sha256:${BASE_DIGEST}"
_ENTRY: Final = ("python3", "-P", "-S", "-m")
_CHECK: Final = ("--help",)


@dataclass(frozen=True, slots=True)
class Stage:
    """One `FROM` and what follows it."""

    name: str
    # A stage before it, or an image.
    base: str
    # Each instruction in capitals, and what it is given.
    steps: tuple[tuple[str, str], ...]

    def given(self, instruction: str) -> list[str]:
        """What the instructions of that name are given."""
        return [given for name, given in self.steps if name == instruction]


@dataclass(frozen=True, slots=True)
class Target:
    """An image, with what the stages below it say."""

    layers: tuple[str, ...]
    environment: Mapping[str, str]
    user: str
    entry: tuple[str, ...]


def parse(text: str) -> tuple[list[str], dict[str, Stage]]:
    """What stands before the first stage, and the stages by name. ValueError for one unnamed."""
    stages: dict[str, Stage] = {}
    before: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, given = line.partition(" ")
        if name == "FROM":
            found = re.fullmatch(r"(\S+) AS (\S+)", given)
            if not found:
                raise ValueError(f"{line}: a stage is to have a name")
            stages[found[2]] = Stage(found[2], found[1], ())
        elif stages:
            last = next(reversed(stages))
            was = stages[last]
            stages[last] = Stage(last, was.base, (*was.steps, (name, given)))
        else:
            before.append(line)
    return before, stages


def target(stages: Mapping[str, Stage], name: str) -> Target:
    """The image of a stage."""
    chain = [stages[name]]
    while chain[0].base in stages:
        chain.insert(0, stages[chain[0].base])
    environment = dict(
        pair.split("=", 1)
        for each in chain
        for given in each.given("ENV")
        for pair in given.split()
    )
    users = [given for each in chain for given in each.given("USER")]
    entries = [json.loads(given) for each in chain for given in each.given("ENTRYPOINT")]
    return Target(
        layers=tuple(given.removesuffix(" /") for each in chain for given in each.given("ADD")),
        environment=environment,
        user=users[-1] if users else "root",
        entry=tuple(entries[-1]) if entries else (),
    )


def findings(text: str, services: Sequence[str]) -> Iterator[str]:
    """What breaks our rules."""
    before, stages = parse(text)
    for line in before:
        if not re.fullmatch(r"ARG (BASE|BASE_DIGEST)", line):
            yield f"{line}: before the stages only the base image is named, and nothing for it"
    for each in stages.values():
        if each.base != BASE and each.base not in stages:
            yield f"{each.name}: {each.base} is no image by digest"
        for given in each.given("ADD"):
            if not re.fullmatch(r"[a-z-]+\.tar /", given):
                yield f"{each.name}: adds {given}, which is no layer of ours"
        for name in sorted({name for name, _ in each.steps} - _KNOWN):
            yield f"{each.name}: has {name}, which no image of ours needs"
    for service in services:
        if service not in stages:
            yield f"{service}: there is no such target"
            continue
        made = target(stages, service)
        module = (*_ENTRY, f"services.{service}.main")
        if made.user != f"{USER}:{USER}":
            yield f"{service}: runs as {made.user}"
        if made.layers != ("packages.tar", f"{service}-packages.tar", f"{service}.tar"):
            yield f"{service}: its layers are {', '.join(made.layers)}"
        if made.entry != module:
            yield f"{service}: starts {' '.join(made.entry)}"
        if [json.loads(given) for given in stages[service].given("RUN")] != [[*module, *_CHECK]]:
            yield f"{service}: runs something else while it is built than to see that it is whole"


_KNOWN: Final = frozenset({"ADD", "ENTRYPOINT", "ENV", "EXPOSE", "RUN", "USER", "WORKDIR"})

"""How commands of `agentmesh` look: common options, examples, subcommands loaded when needed."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import click

from cli.invocation import Invocation, invocation

_COMMON: Final = "cli."


@dataclass(frozen=True, slots=True)
class Example:
    """A command line that works as it stands, and what it does."""

    line: str
    what: str


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    # Given before or after the subcommand's name: the later one counts.
    if value is not None and value is not False:
        context.meta[f"{_COMMON}{parameter.name}"] = value
    return value


def _common_options() -> list[click.Parameter]:
    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_keep, **attributes)

    return [
        option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Where the mesh keeps its state, and so which mesh is meant "
            "(default ~/.local/share/agentmesh).",
        ),
        option(
            "--port",
            type=click.IntRange(0, 65535),
            metavar="PORT",
            help="Port of the gateway on this machine (default: that of the running mesh, or 8080; "
            "0 for a free one).",
        ),
        option(
            "--gateway",
            metavar="[https://]HOST:PORT",
            help="Address of a gateway that runs elsewhere; with https:// it is called by TLS.",
        ),
        option(
            "--ca",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Certificate of the authority that the gateway's is checked by (default: those"
            " that this machine trusts).",
        ),
        option(
            "--key",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="File with the API key or token to call with (default: AGENTMESH_API_KEY, else"
            " the owner's key of the mesh that runs here).",
        ),
        option("--tenant", metavar="TENANT", help="Tenant to act for (default: default)."),
        option(
            "--json",
            "json",
            is_flag=True,
            default=None,
            help="Answer in JSON: one document, or one object a line for streams.",
        ),
    ]


def _is_common(parameter: click.Parameter) -> bool:
    return parameter.callback is _keep


def _write_options(
    command: click.Command, context: click.Context, formatter: click.HelpFormatter
) -> None:
    for title, common in (("Options", False), ("Common options", True)):
        records = [
            record
            for parameter in command.get_params(context)
            if isinstance(parameter, click.Option)
            and _is_common(parameter) is common
            and (record := parameter.get_help_record(context))
        ]
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def _write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            for index, example in enumerate(examples):
                if index:
                    formatter.write_paragraph()
                # Not wrapped: an example can be pasted as it stands.
                indent = " " * formatter.current_indent
                formatter.write(f"{indent}# {example.what}\n{indent}{example.line}\n")


def _refuse_empty(command: click.Command, context: click.Context, args: Sequence[str]) -> None:
    """Raises BadParameter for an option with an empty value.

    Mostly it is a shell variable that is not set, and to do without what it was to
    say would drop a guard.
    """
    given, _, _ = command.make_parser(context).parse_args(list(args))
    for parameter in command.get_params(context):
        value = given.get(parameter.name or "")
        values = cast(Sequence[Any], value if isinstance(value, list | tuple) else [value])
        if isinstance(parameter, click.Option) and "" in values:
            raise click.BadParameter(
                "it is empty; give a value, or leave the option away.", context, parameter
            )


class MeshCommand(click.Command):
    """A command that takes the common options and shows examples."""

    def __init__(
        self, *arguments: Any, examples: Sequence[Example] = (), **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.params.extend(_common_options())
        self.examples: Final = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an empty value is none."""
        _refuse_empty(self, ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command with its Invocation as the context's object."""
        ctx.obj = invocation(ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first."""
        _write_options(self, ctx, formatter)
        _write_examples(self.examples, formatter)


class MeshGroup(click.Group):
    """A group of commands, each loaded when it is called.

    `lazy` maps a command's name to its module's attribute, as `module:attribute`,
    and to the line about it in the group's help.
    """

    def __init__(
        self,
        *arguments: Any,
        lazy: dict[str, tuple[str, str]] | None = None,
        examples: Sequence[Example] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.params.extend(_common_options())
        self.lazy: Final = lazy or {}
        self.examples: Final = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an empty value is none."""
        _refuse_empty(self, ctx, args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were written down."""
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads a command."""
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, attribute = entry[0].split(":")
        return cast(click.Command, getattr(importlib.import_module(module), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the commands there are where one is unknown."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"There is no command {args[0]!r}; there are {known}.", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands come first, they are what people look for."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)
        _write_examples(self.examples, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Does not load what is not called."""
        records = [(name, summary) for name, (_, summary) in self.lazy.items()]
        records += [
            (name, each.get_short_help_str(limit=80)) for name, each in self.commands.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(records)


class _ReaderGoneError(Exception):
    """Who read the results went away, as `head` does."""


class RootGroup(MeshGroup):
    """The command itself: every failure ends here, in one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, which would itself end a command whose reader is gone, with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGoneError from error

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Runs a command line and exits: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            code: Any = super().main(arguments, *rest, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            # Not an error's one line: who names no command wants to see which there are.
            click.echo(error.format_message(), err=True)
            code = error.exit_code
        except _ReaderGoneError:
            # Python would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        except (Exception, KeyboardInterrupt) as error:
            code = _end(error, as_json="--json" in arguments)
        sys.exit(code if isinstance(code, int) else 0)


def _end(error: BaseException, *, as_json: bool) -> int:
    from cli.explain import explain
    from cli.terminal import Terminal

    if os.environ.get("AGENTMESH_DEBUG") == "1":
        traceback.print_exception(error)
    report = explain(error)
    Terminal(as_json=as_json).fail(report)
    return report.exit_code


def pass_invocation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the Invocation to a command's function as its first argument."""
    return click.make_pass_decorator(Invocation)(function)

"""What a command is: flags, arguments and a function; read docker's way, dispatched by click.

A path is what a user typed of it, with the program: "netkit net create", "weave launch".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from netkit.cli.flags import Flag, Options, WantsHelp, read
from netkit.cli.session import Session
from netkit.client.failure import Exit, Misuse

Handler = Callable[[Session, Options], int | None]
HELP_WIDTH = 100
NETKIT = "netkit"


@dataclass(frozen=True, slots=True)
class Count:
    """How many arguments a command takes; `most=None` is any number."""

    least: int = 0
    most: int | None = 0

    def complaint(self, path: str, given: int) -> str:
        """Why `given` arguments are wrong, in one line; empty if they are not."""
        if self.least <= given and (self.most is None or given <= self.most):
            return ""
        if self.most == 0:
            return f"'{path}' accepts no arguments"
        number = self.least if given < self.least else self.most
        bound = ""
        if self.least != self.most:
            bound = "at least " if given < self.least else "at most "
        return f"'{path}' requires {bound}{number} argument{'' if number == 1 else 's'}"


NONE = Count()


def exactly(number: int) -> Count:
    return Count(number, number)


def at_least(number: int) -> Count:
    return Count(number, None)


def between(least: int, most: int) -> Count:
    return Count(least, most)


def at_most(number: int) -> Count:
    return Count(0, number)


def program_of(path: str) -> str:
    return path.partition(" ")[0]


def words_of(path: str) -> str:
    """Return the words after `netkit` of a path; `weave launch` is `netkit weave launch`."""
    return path.removeprefix(f"{NETKIT} ")


class Command(click.Command):
    """One command; its help line comes from the catalog."""

    def __init__(
        self, handler: Handler, usage: str, count: Count, flags: Sequence[Flag], interspersed: bool,
        more: str = "",
    ) -> None:  # fmt: skip
        super().__init__(handler.__name__, add_help_option=False)
        self.handler, self.usage, self.count = handler, usage, count
        self.flags, self.interspersed = tuple(flags), interspersed
        self.more: Callable[[], str] | None = None  # a paragraph of the help, made when asked for
        if more:
            self.more = lambda: more

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            options = read(self.flags, args, ctx.command_path, interspersed=self.interspersed)
        except WantsHelp:
            print(self.get_help(ctx))
            raise Exit(0) from None
        if why := self.count.complaint(ctx.command_path, len(options.args)):
            raise Misuse(f"{why}; usage: {self._usage(ctx)}")
        ctx.params = {"options": options}
        return []

    def invoke(self, ctx: click.Context) -> int:
        session = ctx.find_object(Session)
        assert session is not None, "the root command makes the session"
        return self.handler(session, ctx.params["options"]) or 0

    def _usage(self, ctx: click.Context) -> str:
        return f"{ctx.command_path} {self.usage}".rstrip()

    def get_help(self, ctx: click.Context) -> str:
        parts = [f"Usage:  {self._usage(ctx)}", self.help or ""]
        shown = [flag for flag in self.flags if not flag.hidden]
        if shown:
            parts.append("Options:\n" + flag_table(shown))
        if self.more is not None:
            parts.append(self.more())
        from netkit.cli.examples import examples

        if found := examples(words_of(ctx.command_path)):
            if program_of(ctx.command_path) != NETKIT:  # `weave launch`, not `netkit weave launch`
                found = tuple(line.removeprefix(f"{NETKIT} ") for line in found)
            parts.append("\n".join(["Examples:", *(f"  {line}" for line in found)]))
        return "\n\n".join(parts)


def command(
    usage: str = "", count: Count = NONE, *flags: Flag, interspersed: bool = True, more: str = ""
) -> Callable[[Handler], Command]:
    """Make a Command of a function (session, options) -> exit code or None.

    `more` ends its help: what arguments look like, and examples.
    """
    return lambda handler: Command(handler, usage, count, flags, interspersed, more)


def flag_table(flags: Sequence[Flag]) -> str:
    rows = []
    for flag in sorted(flags, key=lambda each: each.name):
        short = f"-{flag.short}, " if flag.short else "    "
        kind = "" if flag.kind == "bool" else f" {flag.kind}"
        rows.append((f"  {short}--{flag.name}{kind}", flag.help + _default(flag)))
    width = max(len(left) for left, _ in rows) + 3
    return "\n".join(_wrapped(left, help, width) for left, help in rows)


def _default(flag: Flag) -> str:
    match flag.default:
        case True:
            return " (default true)"
        case str(text) if text:
            return f' (default "{text}")'
        case int(number) if number and not isinstance(number, bool):
            return f" (default {number})"
    return ""


def _wrapped(left: str, help: str, width: int) -> str:
    import textwrap

    lines = textwrap.wrap(help, max(30, HELP_WIDTH - width)) or [""]
    return "\n".join(
        [left.ljust(width) + lines[0], *(" " * width + line for line in lines[1:])]
    ).rstrip()


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is to be found: module and attribute, or a group's entries."""

    help: str
    where: str = ""
    inside: Mapping[str, Entry] | None = None
    hidden: bool = False
    common: bool = False  # listed first


class Group(click.Group):
    """Commands by name; their modules are imported when asked for."""

    def __init__(self, name: str, help: str, entries: Mapping[str, Entry]) -> None:
        super().__init__(name, help=help, add_help_option=False)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        return load(cmd_name, entry) if entry else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            options = read((), args, ctx.command_path, interspersed=False)
        except WantsHelp:
            options = Options({})
        ctx.args = list(options.args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        if not ctx.args:
            print(self.get_help(ctx))
            return 0
        name, *rest = ctx.args
        found = self.get_command(ctx, name)
        if found is None:
            raise self._unknown(ctx, name)
        with found.make_context(name, rest, parent=ctx) as inner:
            return int(found.invoke(inner))

    def _unknown(self, ctx: click.Context, name: str) -> Misuse:
        from netkit.cli.absent import INSTEAD
        from netkit.suggestion import hint

        path = ctx.command_path
        words = words_of(f"{path} {name}")
        if words in INSTEAD:
            return Misuse(f"{path} {name}: {INSTEAD[words]}")
        near = hint(name, (known for known, each in self.entries.items() if not each.hidden))
        return Misuse(f"unknown command: {path} {name}{near} (see '{path} --help')")

    def get_help(self, ctx: click.Context) -> str:
        path = ctx.command_path
        return "\n\n".join(
            [f"Usage:  {path} COMMAND", self.help or "", "Commands:\n" + listing(self.entries),
             f"Run '{path} COMMAND --help' for more information on a command."]
        )  # fmt: skip


def load(name: str, entry: Entry) -> click.Command:
    """Import the module of a command; every call gives a command of its own name and help."""
    import importlib

    if entry.inside is not None:
        return Group(name, entry.help, entry.inside)
    module, _, attribute = entry.where.partition(":")
    found: Any = getattr(
        importlib.import_module(module if "." in module else f"netkit.cli.{module}"), attribute
    )
    assert isinstance(found, Command), f"{entry.where} is no command"
    found.name, found.help = name, entry.help
    return found


def listing(entries: Mapping[str, Entry]) -> str:
    shown = {name: entry for name, entry in entries.items() if not entry.hidden}
    width = max(map(len, shown)) + 2
    return "\n".join(f"  {name.ljust(width)}{entry.help}" for name, entry in sorted(shown.items()))


def complain(message: str) -> None:
    """Print it to standard error; what is in it may be of other hosts."""
    from netkit.cli.human import printable

    print(printable(message, keep="\n\t"), file=sys.stderr)

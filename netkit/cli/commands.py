"""What a command is: flags, arguments and a function; groups of commands; read docker's way.

A path is what a user typed of it, with the program: "netkit net create", "weave launch".

Not by click, of which only the dispatch in this module would be used: it takes 27 ms of CPU time to
import where an empty Python takes 10.  For the same reason nothing on the way of `netkit ps` and
`netkit --help` imports dataclasses, typing or contextlib, or compiles regular expressions:
docs/performance.md; tests/unit/netkit/cli/test_imports.py counts what is imported.
"""

from __future__ import annotations

import sys

from netkit.cli.flags import Flag, Options, WantsHelp, read
from netkit.client.failure import Exit, Misuse
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Final

    from netkit.cli.session import Session

    Handler = Callable[[Session, Options], int | None]
HELP_WIDTH = 100
NETKIT = "netkit"


class Count(Value):
    """How many arguments a command takes; `most=None` is any number."""

    __slots__ = ("least", "most")

    def __init__(self, least: int = 0, most: int | None = 0) -> None:
        self.least: Final = least
        self.most: Final = most

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


class Command:
    """One command; its name and its help line come from the catalog."""

    def __init__(
        self, handler: Handler, usage: str, count: Count, flags: Sequence[Flag], interspersed: bool,
        more: str = "",
    ) -> None:  # fmt: skip
        self.name, self.help = handler.__name__, ""
        self.handler, self.usage, self.count = handler, usage, count
        self.flags, self.interspersed = tuple(flags), interspersed
        self.more: Callable[[], str] | None = None  # a paragraph of the help, made when asked for
        if more:
            self.more = lambda: more

    def run(self, session: Session, path: str, args: Sequence[str]) -> int:
        """Read `args`, what follows `path`, and run it: the exit code.  Exit after --help."""
        return self.handler(session, self.parse(path, args)) or 0

    def parse(self, path: str, args: Sequence[str]) -> Options:
        """Misuse for what is no flag, and for too few or too many arguments."""
        try:
            options = read(self.flags, args, path, interspersed=self.interspersed)
        except WantsHelp:
            print(self.help_text(path))
            raise Exit(0) from None
        if why := self.count.complaint(path, len(options.args)):
            raise Misuse(f"{why}; usage: {self._usage(path)}")
        return options

    def _usage(self, path: str) -> str:
        return f"{path} {self.usage}".rstrip()

    def help_text(self, path: str) -> str:
        parts = [f"Usage:  {self._usage(path)}", self.help]
        shown = [flag for flag in self.flags if not flag.hidden]
        if shown:
            parts.append("Options:\n" + flag_table(shown))
        if self.more is not None:
            parts.append(self.more())
        from netkit.cli.examples import examples

        if found := examples(words_of(path)):
            if program_of(path) != NETKIT:  # `weave launch`, not `netkit weave launch`
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
    most = max(30, HELP_WIDTH - width)
    lines = [help]
    if len(help) > most:
        import textwrap

        lines = textwrap.wrap(help, most)
    return "\n".join(
        [left.ljust(width) + lines[0], *(" " * width + line for line in lines[1:])]
    ).rstrip()


class Entry(Value):
    """Where a command is to be found: module and attribute, or a group's entries.

    Those that are `common` are listed first.
    """

    __slots__ = ("common", "help", "hidden", "inside", "where")

    def __init__(
        self, help: str, where: str = "", inside: Mapping[str, Entry] | None = None,
        hidden: bool = False, common: bool = False,
    ) -> None:  # fmt: skip
        self.help: Final = help
        self.where: Final = where
        self.inside: Final = inside
        self.hidden: Final = hidden
        self.common: Final = common


class Group:
    """Commands by name; their modules are imported when asked for."""

    def __init__(self, name: str, help: str, entries: Mapping[str, Entry]) -> None:
        self.name, self.help, self.entries = name, help, entries

    def run(self, session: Session, path: str, args: Sequence[str]) -> int:
        """Run the command that `args` begin with: its exit code.  Without one, print the help."""
        words = self.parse(session, path, args)
        if not words:
            print(self.help_text(path))
            return 0
        name, *rest = words
        entry = self.entries.get(name)
        if entry is None:
            raise self._unknown(path, name)
        return load(name, entry).run(session, f"{path} {name}", rest)

    def parse(self, session: Session, path: str, args: Sequence[str]) -> tuple[str, ...]:
        """Return a command's name and what follows it; nothing where the help is wanted."""
        try:
            return read((), args, path, interspersed=False).args
        except WantsHelp:
            return ()

    def _unknown(self, path: str, name: str) -> Misuse:
        from netkit.cli.absent import INSTEAD
        from netkit.suggestion import hint

        words = words_of(f"{path} {name}")
        if words in INSTEAD:
            return Misuse(f"{path} {name}: {INSTEAD[words]}")
        near = hint(name, (known for known, each in self.entries.items() if not each.hidden))
        return Misuse(f"unknown command: {path} {name}{near} (see '{path} --help')")

    def help_text(self, path: str) -> str:
        return "\n\n".join(
            [f"Usage:  {path} COMMAND", self.help, "Commands:\n" + listing(self.entries),
             f"Run '{path} COMMAND --help' for more information on a command."]
        )  # fmt: skip


def load(name: str, entry: Entry) -> Command | Group:
    """Import the module of a command; every call gives a command of its own name and help."""
    if entry.inside is not None:
        return Group(name, entry.help, entry.inside)
    module, _, attribute = entry.where.partition(":")
    path = module if "." in module else f"netkit.cli.{module}"
    __import__(path)  # as importlib.import_module does, without importing importlib
    found: Any = getattr(sys.modules[path], attribute)
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

"""Parse the input of iptables-restore into values.  Pure.

*nat                       Section(table="nat")
-N DOCKER                  NewChain
-I DOCKER 2 -p tcp ...     Put(chain="DOCKER", at=1, rule=...)
-D DOCKER -p tcp ...       Take
-X DOCKER                  DropChain
COMMIT
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEAD = {
    "-s": "src",
    "--source": "src",
    "-d": "dst",
    "--destination": "dst",
    "-i": "in_interface",
    "--in-interface": "in_interface",
    "-o": "out_interface",
    "--out-interface": "out_interface",
    "-p": "protocol",
    "--protocol": "protocol",
}
# Whose match is loaded when an option comes before any -m.
IMPLIED = frozenset({"tcp", "udp", "sctp", "icmp"})
# Options whose one value may look like anything.
FREE = frozenset({"comment", "string", "hex-string", "log-prefix", "nflog-prefix"})


class Inexpressible(Exception):
    """Not expressible with python-iptables, or invalid: left to the tool and its error message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    name: str  # without dashes
    values: tuple[str, ...] = ()
    inverted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """A match or a target with its options."""

    name: str
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    head: tuple[Option, ...] = ()  # src, dst, in_interface, out_interface, protocol
    matches: tuple[Extension, ...] = ()
    target: Extension | None = None
    goto: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    number: int  # from 1, in the text it came from
    chain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChain(Line):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class DropChain(Line):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Put(Line):
    rule: RuleText
    at: int | None = None  # position from 0; None appends


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(Line):
    rule: RuleText


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The changes of one table, in one commit."""

    table: str
    lines: tuple[Line, ...]
    end: int  # line number of its COMMIT


def sections(text: str) -> tuple[Section, ...]:
    """Parse a text.  Raises Inexpressible for anything but the simple language above."""
    out: list[Section] = []
    table: str | None = None
    lines: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("*"):
            table, lines = line[1:].strip(), []
        elif table is None:
            raise Inexpressible(f"line {number} is outside of any table")
        elif line == "COMMIT":
            out.append(Section(table=table, lines=tuple(lines), end=number))
            table = None
        else:
            lines.append(_line(number, words(line)))
    if table is not None:
        raise Inexpressible("the last table has no COMMIT")
    return tuple(out)


def words(line: str) -> list[str]:
    """Split as iptables-restore does: within "..." a backslash makes the next character plain."""
    out: list[str] = []
    word: list[str] | None = None
    quoted = False
    characters = iter(line)
    for c in characters:
        if c == "\\" and quoted:
            word = [*(word or ()), next(characters, "")]
        elif c == '"':
            quoted, word = not quoted, word or []
        elif c in " \t" and not quoted:
            if word is not None:
                out.append("".join(word))
            word = None
        else:
            word = word or []
            word.append(c)
    if quoted:
        raise Inexpressible(f"a quote is not closed: {line}")
    return out if word is None else [*out, "".join(word)]


def _line(number: int, said: Sequence[str]) -> Line:
    verb, chain, *rest = [*said, "", ""][: max(2, len(said))]
    match verb:
        case "-N" if len(said) == 2:
            return NewChain(number=number, chain=chain)
        case "-X" if len(said) == 2:
            return DropChain(number=number, chain=chain)
        case "-A":
            return Put(number=number, chain=chain, rule=rule(rest))
        case "-I":
            at = int(rest.pop(0)) - 1 if rest and rest[0].isdigit() else 0
            return Put(number=number, chain=chain, rule=rule(rest), at=at)
        case "-D" if rest and not rest[0].isdigit():
            return Take(number=number, chain=chain, rule=rule(rest))
    raise Inexpressible(f"line {number}: {verb} {chain} is not among the commands known here")


def rule(args: Sequence[str]) -> RuleText:
    """Parse what follows `-A CHAIN`, as iptables-save prints it or a driver writes it."""
    head: list[Option] = []
    named: list[tuple[str, str, list[Option]]] = []  # flag, name, options
    for flag, inverted, values in _flags(args):
        value = values[0] if values else ""
        if flag in HEAD:
            if len(values) != 1:
                raise Inexpressible(f"{flag} {' '.join(values)}: one value expected")
            head.append(Option(name=HEAD[flag], values=(value,), inverted=inverted))
        elif flag in {"-m", "-j", "-g", "--match", "--jump", "--goto"}:
            if inverted or len(values) != 1:
                raise Inexpressible(f"{flag} wants one name")
            named.append((flag.lstrip("-")[0], value, []))
        elif flag.startswith("--"):
            if not named:
                named.append(("m", _implied(head, flag), []))
            named[-1][2].append(Option(name=flag[2:], values=tuple(values), inverted=inverted))
        else:
            raise Inexpressible(f"{flag} is not among the flags known here")
    ends = [(f, Extension(name=n, options=tuple(o))) for f, n, o in named if f != "m"]
    if len(ends) > 1:
        raise Inexpressible("more than one -j or -g")
    return RuleText(
        head=tuple(head),
        matches=tuple(Extension(name=n, options=tuple(o)) for f, n, o in named if f == "m"),
        target=ends[0][1] if ends else None,
        goto=bool(ends) and ends[0][0] == "g",
    )


def _flags(args: Sequence[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """(flag, was a ! before it, its values), in order."""
    i, inverted = 0, False
    while i < len(args):
        flag = args[i]
        i += 1
        if flag == "!":
            inverted = True
            continue
        if not flag.startswith("-"):
            raise Inexpressible(f"{flag!r} belongs to no option")
        start, free = i, flag[2:] in FREE and flag.startswith("--")
        while i < len(args) and not (args[i] == "!" or args[i].startswith("-")):
            i += 1
        if free:
            i = start + 1
        yield flag, inverted, list(args[start:i])
        inverted = False


def _implied(head: Sequence[Option], flag: str) -> str:
    proto = next((o.values[0].lower() for o in head if o.name == "protocol"), "")
    if proto not in IMPLIED:
        raise Inexpressible(f"{flag} belongs to no match")
    return proto

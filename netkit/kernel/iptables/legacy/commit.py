"""Commits to legacy tables by python-iptables 1.2.0, checked, because it hides failures.

What it is kept from:
* autocommit, whose refresh() swallows the error of a lost commit;
* `Rule.tables`, which opens (hence, in the kernel, creates) every table there is to find out
  whether a jump leads to a chain: ours knows its own table only;
* `Rule.final_check()`, which prints each match and parses it again through 1024 bytes of a
  pipe: four fifths of the time a rule takes.  It is there because an extension keeps flags per
  process, not per rule; here each match is finished before the next is begun.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import iptc
from iptc import ip4tc, ip6tc

from netkit.kernel.iptables.legacy.language import (
    DropChain,
    Extension,
    Inexpressible,
    Line,
    NewChain,
    Option,
    Put,
    RuleText,
    Section,
    Take,
)

TRIES = 5  # commits refused because a process without the lock changed the table first
VERSION = metadata.version("python-iptables")


class Failed(Exception):
    """The kernel or libiptc refused `line`."""

    def __init__(self, message: str, line: int, number: int) -> None:
        super().__init__(message)
        self.line, self.errno = line, number


@dataclass(frozen=True, slots=True)
class Family:
    table: Any
    rule: Any
    check: Any  # iptc_check_entry, which python-iptables leaves out


@cache
def family(number: int) -> Family:
    if number == 4:
        table, rule, check = iptc.Table, iptc.Rule, ip4tc._libiptc.iptc_check_entry
    else:
        table, rule, check = iptc.Table6, iptc.Rule6, ip6tc._libiptc.ip6tc_check_entry
    check.restype = ctypes.c_int
    return Family(table, _of_one_table(rule), check)


def _of_one_table(base: Any) -> Any:
    class Rule(base):  # type: ignore[misc]
        """A rule that asks its own table, and no other, whether a target is a chain."""

        def __init__(self, table: Any) -> None:
            super().__init__()
            self._table = table

        @property
        def tables(self) -> list[Any]:
            return [self._table]

    return Rule


class Staged:
    """One table with changes in memory, until they are committed."""

    def __init__(self, number: int, section: Section) -> None:
        self._family = family(number)
        self._section = section
        try:
            self._table = self._family.table(section.table, autocommit=False)
        except iptc.IPTCError as e:
            raise Inexpressible(f"python-iptables: {_words(e)}") from e
        self._entries: dict[int, tuple[Any, Any]] = {}
        self._stage()

    def commit(self) -> None:
        """Commit to the kernel.  Failed (EAGAIN) if other processes changed it each time."""
        for attempt in range(1, TRIES + 1):
            promised = self._there(self._section.lines)
            try:
                self._table.commit()
            except iptc.IPTCError as e:
                number = _errno()
                if self._happened():
                    return
                if number != errno.EAGAIN or attempt == TRIES:
                    raise Failed(_words(e), self._section.end, number) from e
                self._stage()
                continue
            break
        self._refresh()
        if self._there(self._section.lines) != promised:
            raise Failed("the kernel took the commit, but has other rules", self._section.end, 0)

    def _happened(self) -> bool:
        """Whether a failed commit took effect: libiptc replaces the table, then adds counters.

        The second step fails if a process without the lock wrote in between.  A rule that is only
        moved is there before and after, which proves nothing; it may be moved again.
        """
        puts = {(p.chain, p.rule) for p in self._section.lines if isinstance(p, Put)}
        takes = {(t.chain, t.rule) for t in self._section.lines if isinstance(t, Take)}
        telling = [
            line
            for line in self._section.lines
            if not (isinstance(line, Put | Take) and (line.chain, line.rule) in puts & takes)
        ]
        promised = self._there(telling)
        self._refresh()
        return bool(telling) and self._there(telling) == promised

    def _refresh(self) -> None:
        try:
            self._table.refresh()
        except iptc.IPTCError as e:
            raise Failed(_words(e), self._section.end, errno.EAGAIN) from e

    def _stage(self) -> None:
        self._refresh()
        for line in self._section.lines:
            try:
                self._apply(line)
            except iptc.IPTCError as e:
                raise Failed(_words(e), line.number, _errno()) from e

    def _apply(self, line: Line) -> None:
        match line:
            case NewChain():
                self._table.create_chain(line.chain)
            case DropChain():
                self._table.delete_chain(line.chain)
            case Put(at=None):
                self._table.append_entry(line.chain, self._built(line)[0])
            case Put(at=int(at)):
                self._table.insert_entry(line.chain, self._built(line)[0], at)
            case Take():
                self._table.delete_entry(line.chain, *self._built(line))

    def _built(self, line: Put | Take) -> tuple[Any, Any]:
        """Struct ipt_entry, and which of its bits count in a comparison."""
        rule = build(self._family, self._table, line.rule)
        made = self._entries[line.number] = rule.rule, rule.mask
        return made

    def _there(self, lines: Sequence[Line]) -> list[bool]:
        """For each line, whether its rule or chain exists: in memory, or after a refresh."""
        return [self._is_there(line) for line in lines]

    def _is_there(self, line: Line) -> bool:
        if isinstance(line, NewChain | DropChain) or not self._table.is_chain(line.chain):
            return bool(self._table.is_chain(line.chain))
        entry, mask = self._entries[line.number]
        entry = ctypes.cast(entry, ctypes.c_void_p)
        return bool(self._family.check(line.chain.encode(), entry, mask, self._table._handle))


def build(of: Family, table: Any, said: RuleText) -> Any:
    """Make the rule.  Raises Inexpressible for what python-iptables rejects."""
    rule = of.rule(table)
    try:
        for o in said.head:
            setattr(rule, o.name, f"{'!' if o.inverted else ''}{o.values[0]}")
        for m in said.matches:
            match = rule.create_match(m.name)
            _finish(match, m)
        target = said.target or Extension(name="")
        made = rule.create_target(target.name, goto=said.goto)
        _finish(made, target)
    except (ValueError, AttributeError, TypeError, iptc.XTablesError, iptc.IPTCError) as e:
        raise Inexpressible(f"python-iptables: {_words(e)}") from e
    return rule


def _finish(made: Any, said: Extension) -> None:
    for o in said.options:
        made.parse(o.name, _value(o))
    made._final_check()


def _value(o: Option) -> Sequence[str]:
    return ["!", *o.values] if o.inverted else list(o.values)


def _words(e: Exception) -> str:
    return str(e).replace("b'", "'")


def _errno() -> int:
    return int(ip4tc._get_errno_loc()[0])

"""What goes wrong in a lab, and when: lines of lab.yml as values.  Pure.

    link LINK down [for 2s]
    impair LINK delay 50ms loss 5% [from HOST] [for 2s]
    host HOST daemon killed [for 2s]
    partition {h1,h2}|{h3} [for 2s]

Without `for` it lasts until the schedule ends.  Links are named as `links.chosen` has them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from netkit.errors import InvalidSpec
from netkit.lab.checks import Check
from netkit.lab.impairment_request import ImpairmentRequest
from netkit.model.impairment import given, seconds

MAX_SECONDS = 3600.0  # of a schedule
FORMS = (
    "link LINK down, impair LINK delay 50ms, host HOST daemon killed, partition {h1,h2}|{h3}; "
    "and then maybe: for 2s"
)
_PARTITION = re.compile(r"\{[^{}|]*\}(?:\|\{[^{}|]*\})+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One that a line asks for.  `seconds` None: until the end of the schedule."""

    text: str
    kind: Literal["link", "daemon", "partition"]
    seconds: float | None = None
    link: str = ""
    request: ImpairmentRequest = ImpairmentRequest(values={})  # noqa: RUF009  a frozen value
    host: str = ""
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Echo requests from one to the other, which measure when the path works again."""

    source: str
    target: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}{f'@{self.where}' if self.where else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """At so many seconds after the beginning."""

    name: str
    at: float
    fault: Fault
    during: tuple[Check, ...] = ()  # what must hold while it lasts
    recover: tuple[Recovery, ...] = ()
    within: float | None = None  # seconds: after its end all paths work again

    @property
    def end(self) -> float | None:
        return None if self.fault.seconds is None else self.at + self.fault.seconds


def parsed(line: str) -> Fault:
    """InvalidSpec has the fault of a line and the right form."""
    words = line.replace("} | {", "}|{").split()
    lasts = None
    if "for" in words[:-2]:
        raise InvalidSpec(f"{line!r}: `for` and a duration end a line")
    if words[-2:-1] == ["for"]:
        lasts, words = bounded(words[-1]), words[:-2]
        if not lasts:
            raise InvalidSpec(f"{line!r} lasts no time: write for 2s")
    match words:
        case ["link", link, "down"]:
            return Fault(text=line, kind="link", seconds=lasts, link=link,
                         request=ImpairmentRequest(values={}, down=True))  # fmt: skip
        case ["impair", link, *rest] if rest:
            return Fault(text=line, kind="link", seconds=lasts, link=link, request=_requested(rest))
        case ["host", host, "daemon", "killed"]:
            return Fault(text=line, kind="daemon", seconds=lasts, host=host)
        case ["partition", *rest] if _PARTITION.fullmatch("".join(rest)):
            return Fault(text=line, kind="partition", seconds=lasts, groups=_groups(rest))
    raise InvalidSpec(f"{line!r} is nothing that can go wrong here: write {FORMS}")


def bounded(text: str) -> float:
    """Seconds of `2s`.  InvalidSpec."""
    found = seconds(text)
    if found > MAX_SECONDS:
        raise InvalidSpec(f"{text} is longer than an hour")
    return found


def _requested(words: Sequence[str]) -> ImpairmentRequest:
    source, left = "", list(words)
    if left[-2:-1] == ["from"]:
        source, left = left[-1], left[:-2]
    if left == ["down"]:
        return ImpairmentRequest(values={}, down=True, source=source)
    values = dict(zip(left[::2], left[1::2], strict=False))
    if len(left) != 2 * len(values):
        raise InvalidSpec(f"{' '.join(words)!r}: write names and values, as delay 50ms loss 5%")
    # What a link does already is not known here: what goes with it only is found when it is done.
    alone = {k: v for k, v in values.items() if k not in {"jitter", "reorder"}}
    given({**({"delay": "60s"} if len(alone) < len(values) else {}), **values})
    return ImpairmentRequest(values=values, source=source)


def _groups(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    groups = tuple(
        tuple(name for name in group.strip("{}").split(",") if name)
        for group in "".join(words).split("|")
    )
    names = [name for group in groups for name in group]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidSpec(f"{min(twice)} is on two sides of the partition")
    if not all(groups):
        raise InvalidSpec("a side of the partition is empty: leave it out")
    return groups

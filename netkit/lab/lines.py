"""The firewall lines of a host: run once each, and taken back where they can be."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from netkit.errors import KernelError
from netkit.lab.commands import attempt, run
from netkit.lab.facts import Facts
from netkit.lab.journal import Journal
from netkit.lab.model import LabHost, Places

WHAT = "firewall"
ADDING = frozenset({"-A", "-I", "--append", "--insert"})


def firewall(host: LabHost, places: Places, journal: Journal, facts: Facts) -> None:
    """Each line once.  iptables is asked whether it has the rule: others may have restored it."""
    for line in host.firewall:
        words = shlex.split(line.format_map(facts))
        key = {"host": host.name, "line": line}
        if journal.state(WHAT, **key) == "done" and "iptables" not in words[0]:
            continue
        rendered = shlex.join(words)
        if (there := presence(words)) and attempt(places, host.name, there).returncode == 0:
            if journal.state(WHAT, **key) != "done":
                journal.note("done", WHAT, **key, rendered=rendered)
            continue
        journal.note("begin", WHAT, **key, rendered=rendered)
        run(places, host.name, words)
        journal.note("done", WHAT, **key, rendered=rendered)


def again(host: LabHost, places: Places, journal: Journal, facts: Facts) -> None:
    """Have exactly the host's lines, in their order: what comes first decides.

    Lines from the first one on that is another, or reads another now, are taken back.
    KernelError for one that cannot be.
    """
    old = [(each["line"], each.get("rendered", "")) for each in journal.last(WHAT, host=host.name)]
    new = [(line, shlex.join(shlex.split(line.format_map(facts)))) for line in host.firewall]
    at = 0
    while at < min(len(old), len(new)) and old[at] == new[at]:
        at += 1
    for line, rendered in reversed(old[at:]):
        words = taken_back(shlex.split(rendered))
        if not words:
            raise KernelError(
                f"{host.name}: {rendered or line} cannot be taken back: netkit lab down "
                f"{places.lab} {host.name}, and up"
            )
        attempt(places, host.name, words)  # fails where the rule is not there
        journal.note("gone", WHAT, host=host.name, line=line)
    firewall(host, places, journal, facts)


def presence(words: Sequence[str]) -> list[str]:
    """The iptables command that checks whether a rule exists; [] if these words add none."""
    return _with(words, "-C")


def taken_back(words: Sequence[str]) -> list[str]:
    """The iptables command that deletes what these words add; [] if they add no rule."""
    return _with(words, "-D")


def _with(words: Sequence[str], flag: str) -> list[str]:
    for n, word in enumerate(words):
        if word in ADDING and "iptables" in words[0]:
            rest = list(words[n + 2 :])
            if rest and rest[0].isdigit():
                rest = rest[1:]  # where to insert
            return [*words[:n], flag, words[n + 1], *rest]
    return []

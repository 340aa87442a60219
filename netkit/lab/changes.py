"""What has to be done for a running lab to be as lab.yml says: part by part.  Pure.

A part that cannot be changed in place is deleted and created, with all that stands on it; a host
as a whole where it is the host's: its engine, its switch, its `setup`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal

from netkit.lab.lines import taken_back
from netkit.lab.model import (
    DEFAULT_NETWORK,
    NETKIT,
    NETWORK_OPTION,
    PODMAN,
    Lab,
    LabContainer,
    LabHost,
)
from netkit.lab.parts import (
    CONTAINER,
    DAEMON,
    FIREWALL,
    HOST,
    IMAGE,
    IMPAIR,
    INTERFACE,
    LAB,
    NETWORK,
    ROUTES,
    SYSCTLS,
    WIRES,
    Part,
    Parts,
    host_of,
    titled,
)
from netkit.lab.record import Recorded

Action = Literal["create", "change", "delete"]
SIGNS: Mapping[Action, str] = {"create": "+", "change": "~", "delete": "-"}
INNER = frozenset({IMAGE, NETWORK, CONTAINER})
CUT_SHORT = "an earlier change of it was cut short"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Of the lab, above the planner's of links and addresses.  `why` may be ""."""

    action: Action
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{SIGNS[self.action]} {self.what}{f' ({self.why})' if self.why else ''}"


@dataclass(slots=True, kw_only=True)
class Changes:
    """Parts with reasons, in no order but that of lab.yml.

    `made` has hosts with all that is theirs; of replaced ones, `removed` has the host as well.
    `wires`: parts of hosts and segments that are changed in place, by the planner.
    """

    refused: list[str] = field(default_factory=list)
    removed: dict[Part, str] = field(default_factory=dict)
    made: dict[Part, str] = field(default_factory=dict)
    wires: dict[Part, str] = field(default_factory=dict)
    impaired: dict[Part, str] = field(default_factory=dict)  # links, otherwise than before
    daemons: dict[str, str] = field(default_factory=dict)  # hosts: restarted
    firewall: dict[str, str] = field(default_factory=dict)  # hosts: lines are run

    def __bool__(self) -> bool:
        return any((self.removed, self.made, self.wires, self.impaired, self.daemons,
                    self.firewall))  # fmt: skip

    def hosts(self, parts: Iterable[Part]) -> list[str]:
        """Names of hosts that are among the parts themselves."""
        return [part[1] for part in parts if part[0] == HOST]

    def of(self, kind: str, parts: Iterable[Part]) -> list[Part]:
        return [part for part in parts if part[0] == kind]


def changes(lab: Lab, wanted: Parts, have: Recorded) -> Changes:
    """From what is recorded to `wanted`, the parts of `lab`."""
    return _Comparison(lab, wanted, have).made()


@dataclass(slots=True)
class _Comparison:
    lab: Lab
    wanted: Parts
    have: Recorded
    out: Changes = field(default_factory=Changes)
    index: dict[tuple[str, str], list[Part]] = field(default_factory=dict)  # by kind and host

    def made(self) -> Changes:
        self._lab()
        self._hosts()
        whole = {*self.out.hosts(self.out.removed), *self.out.hosts(self.out.made)}
        kept = [h for h in self.lab.hosts if h.name not in whole]
        self._wires(kept)
        self._daemons(kept)
        self._inner(kept)
        self._firewall(kept)
        self._refuse()
        return self.out

    def _differs(self, part: Part) -> str:
        """Why; "" if it does not."""
        new = self.wanted.get(part)
        if part not in self.have.known():
            return "" if new is None else "new"
        if not self.have.certain(part):
            return CUT_SHORT
        old = self.have.applied[part]
        if new is None:
            return "not in lab.yml any more"
        return "" if old == new else _fields(old, new)

    def _lab(self) -> None:
        for part in self.wanted:
            if part[0] == LAB and part in self.have.known() and self._differs(part):
                self.out.refused.append(f"`{part[1]}` cannot be changed while the lab is up")

    # hosts

    def _hosts(self) -> None:
        known = {host_of(p) for p in self.have.known()} - {""}
        for name in sorted(known - {h.name for h in self.lab.hosts}):
            self.out.removed[HOST, name] = "not in lab.yml any more"
        for host in self.lab.hosts:
            if host.name not in known:
                self.out.made[HOST, host.name] = ""
            elif why := self._replaced(host):
                self.out.removed[HOST, host.name] = why
                self.out.made[HOST, host.name] = "anew"

    def _replaced(self, host: LabHost) -> str:
        """Why a host that is there cannot become as it should be in place; "" if it can."""
        if why := self._differs((HOST, host.name)):
            return why
        old = dict(self.have.applied.get((SYSCTLS, host.name), ()))
        if left := sorted(old.keys() - host.sysctls):
            return f"the former value of {left[0]} is not known"
        changed = (p for p in self._parts_of(host.name, NETWORK) if self._differs(p))
        if host.engine == PODMAN and (part := next(changed, None)):
            return f"{titled(part)} is podman's: it is not changed in place"
        return self._rearranged(host) or self._beyond_recall(host)

    def _rearranged(self, host: LabHost) -> str:
        """Why its interfaces are not as they were plugged in, if they are to be changed."""
        wires = [p for kind in (INTERFACE, ROUTES) for p in self._parts_of(host.name, kind)
                 if self._differs(p)]  # fmt: skip
        if wires and host.setup:
            return f"its `setup` may stand on {titled(wires[0])}"
        for part in wires:
            if part[0] == INTERFACE and part[2] in taken_over(self.have.applied, host.name):
                return f"a network has taken over {titled(part)}"
        return ""

    def _beyond_recall(self, host: LabHost) -> str:
        """Which of its firewall lines cannot be taken back, and would have to be."""
        old = self.have.applied.get((FIREWALL, host.name), [])
        at = common(old, host.firewall)
        lost = [line for line in old[at:] if not taken_back(shlex.split(line))]
        return f"`{lost[0]}` cannot be taken back" if lost else ""

    def _parts_of(self, host: str, kind: str) -> list[Part]:
        """Those wanted, in the order of lab.yml, then those recorded."""
        if not self.index:
            for p in dict.fromkeys([*self.wanted, *self.have.applied, *self.have.begun]):
                self.index.setdefault((p[0], host_of(p)), []).append(p)
        return self.index.get((kind, host), [])

    # in place

    def _wires(self, kept: list[LabHost]) -> None:
        names = {h.name for h in kept} | {""}
        for part in dict.fromkeys([*self.wanted, *self.have.applied, *self.have.begun]):
            if host_of(part) not in names or not (why := self._differs(part)):
                continue
            if part[0] in WIRES:
                self.out.wires[part] = why
            elif part[0] == IMPAIR:
                self.out.impaired[part] = why

    def _daemons(self, kept: list[LabHost]) -> None:
        for host in kept:
            if host.daemon is not None and (why := self._differs((DAEMON, host.name))):
                self.out.daemons[host.name] = why

    def _inner(self, kept: list[LabHost]) -> None:
        """Images, networks and containers, and what stands on those that change."""
        why = {
            part: reason
            for host in kept for kind in (IMAGE, NETWORK, CONTAINER)
            for part in self._parts_of(host.name, kind) if (reason := self._differs(part))
        }  # fmt: skip
        while more := dict(self._dependents(kept, why)):
            why |= more
        for part, reason in why.items():
            if part in self.have.known():
                self.out.removed[part] = reason
            if part in self.wanted:
                self.out.made[part] = "anew" if part in self.have.known() else ""

    def _dependents(
        self, kept: list[LabHost], why: Mapping[Part, str]
    ) -> Iterator[tuple[Part, str]]:
        for host in kept:
            for net in host.networks:
                part = (NETWORK, host.name, net.name)
                if part not in why and (base := self._below(host, net.ipam_options, why)):
                    yield part, f"it stands on {titled(base)}"
            for c in host.containers:
                part = (CONTAINER, host.name, c.name)
                if part not in why and (base := self._base(host, c, why)):
                    yield part, f"it stands on {titled(base)}"

    def _below(self, host: LabHost, given: Mapping[str, str], why: Mapping[Part, str]) -> Part:
        """The network of netkit's that one of another engine is, if it changes; () if none."""
        name = given.get(NETWORK_OPTION, "") if host.engine != NETKIT else ""
        return next((p for p in why if p[0] == NETWORK and p[2] == name and name), ())

    def _base(self, host: LabHost, c: LabContainer, why: Mapping[Part, str]) -> Part:
        """What of that which changes a container cannot outlive; () if nothing."""
        shared = self.lab.shared()
        needs: list[Part] = [(CONTAINER, host.name, name) for name in _companions(c)]
        needs += [(IMAGE, host.name, c.image)]
        needs += [(NETWORK, host.name, name) for name in c.networks]
        needs += [p for p in why if p[0] == NETWORK and p[2] in c.networks and p[2] in shared]
        if found := next((need for need in needs if need in why), None):
            return found
        own = any(word.startswith(("--network", "--net")) for word in c.flags)
        default = DEFAULT_NETWORK in c.networks or not (c.networks or own)
        if default and host.engine == NETKIT and host.name in self.out.daemons:
            return (DAEMON, host.name)
        return ()

    def _firewall(self, kept: list[LabHost]) -> None:
        moved = {p[-1] for p in (*self.out.made, *self.out.removed) if p[0] in {CONTAINER, HOST}}
        moved |= {c.name for h, c in self.lab.containers() if (HOST, h.name) in self.out.made}
        moved |= {p[1] for p in self.out.wires if p[0] == INTERFACE}
        for host in kept:
            part = (FIREWALL, host.name)
            why = self._differs(part)
            named = [name for line in host.firewall for name in placeholders(line)]
            if not why and (there := [name for name in named if name in moved]):
                why = f"the address of {there[0]} may change"
            if why:
                self.out.firewall[host.name] = why

    # what is refused

    def _refuse(self) -> None:
        """Hosts of a cluster, an OVN or an overlay are known to the others by their address."""
        for host, why in self._left().items():
            if group := self._group(host):
                self.out.refused.append(
                    f"host {host} is of the lab's {group}, which knows it by its address: it "
                    f"cannot be removed or replaced while the lab is up ({why})"
                )

    def _left(self) -> dict[str, str]:
        out = {p[1]: why for p, why in self.out.removed.items() if p[0] == HOST}
        for part, why in self.out.wires.items():
            if part[0] == INTERFACE and part in self.have.known():
                out.setdefault(part[1], f"{titled(part)}: {why}")
        return out

    def _group(self, host: str) -> str:
        found = self.have.applied.get((HOST, host), {})
        if not found.get("netkitd"):
            return ""
        if self.lab.cluster:
            return "cluster"
        if self.lab.ovn and found.get("ovs"):
            return "ovn"
        return "weave" if found.get("weave") is not None else ""


def taken_over(found: Parts, host: str) -> set[str]:
    """Interfaces of a host that networks of its have as an option: parent=eth0."""
    return {
        value for part, network in found.items() if part[:2] == (NETWORK, host)
        for _, value in network["options"]
    }  # fmt: skip


def common(old: list[str], new: Iterable[str]) -> int:
    """How many of the first lines are the same."""
    n = 0
    for one, two in zip(old, new, strict=False):
        if one != two:
            break
        n += 1
    return n


def placeholders(line: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(line) if name]


def _companions(c: LabContainer) -> Iterator[str]:
    """Containers that this one was started with."""
    yield from (link.partition(":")[0] for link in c.links)
    for n, word in enumerate(c.flags):
        flag, equals, value = word.partition("=")
        given = value if equals else c.flags[n + 1] if n + 1 < len(c.flags) else ""
        if given.startswith("container:"):
            yield given.removeprefix("container:")
        if flag == "--volumes-from":
            yield given.partition(":")[0]


def _fields(old: Any, new: Any) -> str:
    """Which fields differ, for people."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [n for n in dict.fromkeys([*old, *new]) if old.get(n) != new.get(n)]
        return f"{', '.join(n.replace('_', ' ') for n in names)} changed"
    return "changed"

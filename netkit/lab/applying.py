"""Apply a changed lab.yml to a lab that is up: what changed is done, and nothing else.

    containers, networks, images that go -> hosts that go -> links, addresses, routes
        -> hosts that come -> netkitd with other flags -> cluster, OVN, weave of those that come
        -> images, networks, containers that come -> firewall lines

What is done is recorded step by step (`record`): one that was cut short goes on with the next
apply, and a part whose change was under way is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from netkit import threads
from netkit.client.failure import Failure
from netkit.errors import Conflict, KernelError, NetkitError
from netkit.lab import building, chassis, clustering, engines, impairing, lines, lookup, weaving
from netkit.lab.changes import SIGNS, Changes, Step, changes
from netkit.lab.facts import Facts
from netkit.lab.journal import Journal, only_one
from netkit.lab.model import Lab, LabHost, Places
from netkit.lab.parts import (
    CONTAINER,
    DAEMON,
    FIREWALL,
    HOST,
    IMAGE,
    IMPAIR,
    INTERFACE,
    NETWORK,
    ROUTES,
    SEGMENT,
    SYSCTLS,
    Part,
    Parts,
    host_of,
    parts,
    titled,
    wired,
)
from netkit.lab.populate import populate
from netkit.lab.record import Record, Recorded
from netkit.lab.rewiring import Rewiring, Scope, new_wires
from netkit.reconcile.plan import Op, shown

PATHS = {
    CONTAINER: (lookup.container, "/containers/{}", {"force": True, "v": True}),
    NETWORK: (lookup.network, "/networks/{}", {}),
    IMAGE: (lookup.image, "/images/{}", {}),
}  # fmt: skip
OWN = (HOST, INTERFACE, IMPAIR, ROUTES, SYSCTLS, DAEMON)  # what is there once a host is made
Say = Callable[[str], None]
Planned = tuple[Step | Op, ...]


def plan(lab: Lab, places: Places) -> Planned:
    """The steps that `apply` would do, in their order.  Conflict for what it would refuse."""
    return _Application.of(lab, places).steps()


def changed(lab: Lab, places: Places) -> list[str]:
    """What differs between lab.yml and what was applied, without a look at the kernel."""
    wanted = parts(lab, building.daemon_flags(lab, places))
    todo = changes(lab, wanted, Record(places.folder).read())
    every = {**todo.removed, **todo.made, **todo.wires}
    return [
        *todo.refused,
        *(f"{titled(part)}{f' ({why})' if why else ''}" for part, why in every.items()),
        *(f"netkitd of {host} ({why})" for host, why in todo.daemons.items()),
        *(f"firewall of {host} ({why})" for host, why in todo.firewall.items()),
    ]


def apply(lab: Lab, places: Places, say: Say = print) -> int:
    """Do them; return how many there were.  Conflict before the first, else CutShort."""
    with only_one(places):
        job = _Application.of(lab, places)
        planned = job.steps()
        try:
            if planned:
                job.run(say)
        except NetkitError as error:
            cut = CutShort(
                f"{error}; the steps before it stay: netkit lab apply {lab.name} goes on from there"
            )
            for note in threads.notes(error):
                cut.add_note(note)
            raise cut from error
        return len(planned)


class CutShort(NetkitError):
    """A step failed: what was done before it stays, and is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Application:
    lab: Lab
    places: Places
    journal: Journal
    record: Record
    wanted: Parts
    have: Recorded
    todo: Changes = field(default_factory=Changes)

    @classmethod
    def of(cls, lab: Lab, places: Places) -> _Application:
        """Conflict for what cannot be done to a lab that is up, a line each."""
        journal, record = Journal(places.folder), Record(places.folder)
        building.same_lab(lab, journal)
        if journal.exists() and not record.exists():
            raise Conflict(
                f"lab {lab.name} was brought up by a netkit that kept no record of what it "
                f"applied: netkit lab down {lab.name}, and up"
            )
        wanted = parts(lab, building.daemon_flags(lab, places))
        have = record.read()
        todo = changes(lab, wanted, have)
        if todo.refused:
            more = f"take it down first: netkit lab down {lab.name}"
            raise Conflict("\n".join([*todo.refused, more]))
        fresh = [h for h in todo.hosts(todo.made) if (HOST, h) not in have.known()]
        if not journal_has(journal, fresh):
            building.strangers(places, fresh)
        engines.require(h for h in lab.hosts if h.name in todo.hosts(todo.made))
        return cls(lab=lab, places=places, journal=journal, record=record, wanted=wanted,
                   have=have, todo=todo)  # fmt: skip

    # the steps

    def steps(self) -> Planned:
        todo, made = self.todo, self.todo.hosts(self.todo.made)
        out: list[Step | Op] = []
        for kind in (CONTAINER, NETWORK, IMAGE, HOST):
            out += [self._step("delete", p, todo.removed) for p in todo.of(kind, todo.removed)]
        out += self._rewiring().plan() if todo.wires else ()
        out += [Step(action="change", what=titled(p), why=why) for p, why in todo.impaired.items()]
        for host in made:
            out.append(self._step("create", (HOST, host), todo.made))
            out += new_wires(self.lab, self.places, host)
        out += [Step(action="change", what=f"netkitd of {h}: restarted", why=why)
                for h, why in todo.daemons.items()]  # fmt: skip
        for kind in (IMAGE, NETWORK, CONTAINER):
            out += [self._step("create", p, todo.made) for p in self._coming(kind)]
        out += [Step(action="change", what=f"firewall of {h}", why=why)
                for h, why in todo.firewall.items()]  # fmt: skip
        out += [Step(action="create", what=f"firewall of {h}") for h in made
                if self._host(h).firewall]  # fmt: skip
        return tuple(out)

    def _step(self, action: Any, part: Part, why: Any) -> Step:
        return Step(action=action, what=titled(part), why=why.get(part, ""))

    def _coming(self, kind: str) -> list[Part]:
        """Parts of a kind to be made, those of hosts that are made as well."""
        hosts = self.todo.hosts(self.todo.made)
        some = (p for p in self.wanted if p[0] == kind)
        return [p for p in some if p in self.todo.made or host_of(p) in hosts]

    def _host(self, name: str) -> LabHost:
        found = self.lab.host(name)
        if found is None:
            raise KernelError(f"lab {self.lab.name} has no host {name!r}")
        return found

    def _rewiring(self) -> Rewiring:
        todo = self.todo
        segments = {p[1] for p in todo.wires if p[0] == SEGMENT}
        whole = {*todo.hosts(todo.made), *todo.hosts(todo.removed)}
        scope = Scope(
            segments=segments,
            interfaces={(p[1], p[2]) for p in todo.wires if p[0] == INTERFACE},
            links={
                (h.name, i.name) for h in self.lab.hosts if h.name not in whole
                for i in h.interfaces if i.segment in segments
            },
            routes={p[1] for p in todo.wires if p[0] == ROUTES},
            sysctls={p[1] for p in todo.wires if p[0] == SYSCTLS},
        )  # fmt: skip
        old = [wired(self.lab.name, version) for version in self.have.versions()]
        return Rewiring(old=old, new=self.lab, places=self.places, scope=scope)

    # doing them

    def run(self, say: Say) -> None:
        todo = self.todo
        self.record.compact()
        for kind in (CONTAINER, NETWORK, IMAGE):
            gone = [*reversed(todo.of(kind, todo.removed))]
            self._each(gone, lambda part: self._delete(part, say))
        self._each(todo.of(HOST, todo.removed), lambda part: self._remove_host(part, say))
        if todo.wires or todo.impaired:
            self._rewire(say)
        made = [self._host(name) for name in todo.hosts(todo.made)]
        self._make(made, say)
        building.together(
            [self._host(name) for name in todo.daemons], lambda host: self._restart(host, say)
        )
        for kind in (IMAGE, NETWORK, CONTAINER):
            self._each(self._coming(kind), lambda part: self._create(part, say))
        self._firewall(made, say)
        if all(self.journal.state("host", host=h.name) == "done" for h in self.lab.hosts):
            self.journal.note("done", "lab")

    def _each(self, some: Sequence[Part], act: Callable[[Part], None]) -> None:
        """In their order on a host, all hosts at once."""
        by_host: dict[str, list[Part]] = {}
        for part in some:
            by_host.setdefault(host_of(part), []).append(part)
        hosts = [self.lab.host(name) or LabHost(name=name) for name in by_host]

        def one(host: LabHost) -> None:
            for part in by_host[host.name]:
                act(part)

        building.together(hosts, one)

    def _delete(self, part: Part, say: Say) -> None:
        kind, host, name = part
        find, path, query = PATHS[kind]
        self.record.begin([(part, None)])
        with closing(engines.engine(self.places, host)) as engine:
            try:
                if found := find(engine, name):
                    engine.delete(path.format(name if kind == IMAGE else found["Id"]), dict(query))
            except Failure as failure:
                if kind != IMAGE or part not in self.todo.made:  # else the new one takes its name
                    raise KernelError(f"{titled(part)}: {failure}") from failure
        self.record.done([(part, None)])
        say(str(self._step("delete", part, self.todo.removed)))

    def _remove_host(self, part: Part, say: Say) -> None:
        building.forget(self.places, self.journal, part[1])
        say(str(self._step("delete", part, self.todo.removed)))

    def _rewire(self, say: Say) -> None:
        changed = [(p, self.wanted.get(p)) for p in (*self.todo.wires, *self.todo.impaired)]
        self.record.begin(changed)
        impairing.withdraw(self.places, {f"{p[1]}@{p[2]}" for p in self.todo.impaired})
        for part in self.todo.wires:
            if part[0] == INTERFACE and part not in self.wanted:
                impairing.forget(self.places, part[1], part[2])
        for op in self._rewiring().apply() if self.todo.wires else ():
            say(shown(op))
        impairing.settle(self.lab, self.places, links=self._impaired())
        self.record.done(changed)
        for part, why in self.todo.impaired.items():
            say(str(Step(action="change", what=titled(part), why=why)))

    def _impaired(self) -> set[str]:
        """Links whose relays may have to change: by themselves, or with interface or segment."""
        segments = {p[1] for p in self.todo.wires if p[0] == SEGMENT}
        moved = {
            (h.name, i.name) for h in self.lab.hosts for i in h.interfaces
            if i.segment in segments or (INTERFACE, h.name, i.name) in self.todo.wires
        }  # fmt: skip
        relayed = {k for k in moved if self.lab.impairment(*k)}
        return {f"{host}@{name}" for host, name in relayed | {p[1:] for p in self.todo.impaired}}

    def _make(self, made: list[LabHost], say: Say) -> None:
        names = {h.name for h in made}
        for name in names:
            if self.journal.state("host", host=name):  # begun by an earlier one, from another text
                building.forget(self.places, self.journal, name)
        self.record.begin([(p, v) for p, v in self.wanted.items() if host_of(p) in names])

        def one(host: LabHost) -> None:
            building.make_host(self.lab, host, self.places, self.journal)
            impairing.settle(self.lab, self.places, host.name)
            if self.lab.cluster:
                clustering.gather(self.lab, self.places, host.name)
            chassis.serve(self.lab, self.places, host.name)

        building.together(made, one)
        for first in (True, False):
            found = [h for h in made if h.weave is not None and weaving.founds(h) == first]
            building.together(found, lambda host: weaving.launch(self.lab, host, self.places))
        self.record.done(
            [(p, v) for p, v in self.wanted.items() if p[0] in OWN and host_of(p) in names]
        )
        for host in made:
            say(str(self._step("create", (HOST, host.name), self.todo.made)))

    def _restart(self, host: LabHost, say: Say) -> None:
        part = (DAEMON, host.name)
        self.record.begin([(part, self.wanted[part])])
        building.restart(self.lab, self.places, host.name)
        self.record.done([(part, self.wanted[part])])
        say(f"~ netkitd of {host.name}: restarted ({self.todo.daemons[host.name]})")

    def _create(self, part: Part, say: Say) -> None:
        kind, host = part[0], self._host(part[1])
        alone = replace(
            host,
            images=(part[2],) if kind == IMAGE else (),
            networks=tuple(n for n in host.networks if part == (NETWORK, host.name, n.name)),
            containers=tuple(c for c in host.containers if part == (CONTAINER, host.name, c.name)),
        )
        self.record.begin([(part, self.wanted[part])])
        with closing(engines.engine(self.places, host.name)) as engine:
            populate(self.lab, alone, self.places, engine, say)
        self.record.done([(part, self.wanted[part])])
        say(str(self._step("create", part, self.todo.made)))

    def _firewall(self, made: list[LabHost], say: Say) -> None:
        facts = Facts(self.lab, self.places)

        def one(host: LabHost) -> None:
            part = (FIREWALL, host.name)
            self.record.begin([(part, self.wanted[part])])
            lines.again(host, self.places, self.journal, facts)
            self.record.done([(part, self.wanted[part])])
            if host.firewall or host.name in self.todo.firewall:
                why = self.todo.firewall.get(host.name, "")
                action: Any = "change" if host.name in self.todo.firewall else "create"
                say(str(Step(action=action, what=f"firewall of {host.name}", why=why)))

        building.together([*made, *map(self._host, self.todo.firewall)], one)


def journal_has(journal: Journal, hosts: Iterable[str]) -> bool:
    """Whether any of the hosts was begun: its namespace may be a half made one of ours."""
    return any(journal.state("host", host=host) for host in hosts)


def documented(steps: Iterable[Step | Op]) -> Iterator[dict[str, str]]:
    """For JSON: {"Action": create, change or delete; "What", "Why", "Step"}."""
    actions = {sign: action for action, sign in SIGNS.items()}
    for step in steps:
        if isinstance(step, Step):
            what, why, line = step.what, step.why, str(step)
        else:
            what, why, line = str(step.subject), step.differs, shown(step)
        yield {"Action": actions[line[0]], "What": what, "Why": why, "Step": line}

"""Bring a lab up and take it down: whole or not at all, and idempotent.

    begin lab -> namespace of the segments -> hosts, at once: namespace, wires, setup -> done host
              -> daemon -> cluster, OVN, weave -> images, networks, containers -> firewall lines
              -> done lab

A host whose making was cut short is taken down and made anew, since setup commands are not
known to bear being run twice.  The rest looks first and makes only what is missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from netkit.errors import Conflict, KernelError, NetkitError, NotFound
from netkit.kernel import netns
from netkit.lab import (
    chassis,
    clustering,
    engines,
    fabric,
    impairing,
    lines,
    mounts,
    partitions,
    parts,
    weaving,
)
from netkit.lab.commands import run
from netkit.lab.daemon import LabDaemon
from netkit.lab.facts import Facts
from netkit.lab.journal import Journal, only_one
from netkit.lab.model import NETKIT, UNDERLAY, Lab, LabHost, Places
from netkit.lab.openvswitch import OpenVSwitch
from netkit.lab.populate import populate
from netkit.lab.record import Applied, Record
from netkit.lab.sweep import Remains, sweep

Say = Callable[[str], None]


def up(lab: Lab, places: Places, say: Say = print, only: str = "") -> bool:
    """Bring up the lab, or its host `only`; True if it was not up before.

    If that fails, a lab of which there was nothing before is taken down again.  Raises what failed
    first.
    """
    engines.require(host for host in lab.hosts if only in {"", host.name})
    with only_one(places):
        journal = Journal(places.folder)
        before = journal.state("lab")
        try:
            _up(lab, places, journal, say, only)
        except BaseException as error:
            if before == "done" or only:
                raise
            say(f"lab {lab.name} could not be brought up: taking it down again")
            try:
                _down(places, journal)
            except NetkitError as bad:
                error.add_note(f"could not take it down (netkit lab down {lab.name}): {bad}")
            raise
        return before != "done"


def _up(lab: Lab, places: Places, journal: Journal, say: Say, only: str) -> None:
    hosts = [host for host in lab.hosts if only in {"", host.name}]
    if not hosts:
        raise NotFound(f"lab {lab.name} has no host {only!r}")
    same_lab(lab, journal)
    if not journal.exists():
        strangers(places, (UNDERLAY, *(h.name for h in lab.hosts)))
        sweep(Remains((places.roots,), ()))  # a reboot forgets the journal, and not the disk
    every = parts.parts(lab, daemon_flags(lab, places))
    wanted = {p: v for p, v in every.items() if not only or parts.host_of(p) in {"", only}}
    applied = Applied(Record(places.folder), wanted, fresh=not journal.exists())
    journal.note("begin", "lab", folder=lab.folder)
    if not netns.exists(places.netns(UNDERLAY)):
        _namespace(journal, places, UNDERLAY)
    for part in applied.begin():
        say(f"{parts.titled(part)} stays as it was: netkit lab apply {lab.name} changes it")
    fabric.lay(lab, places, *fabric.segments(parts.wired(lab.name, applied.there())))
    together(hosts, lambda host: make_host(lab, host, places, journal))
    impairing.settle(lab, places, only)
    partitions.mend(lab, places)
    if lab.cluster:
        clustering.gather(lab, places, only)
    chassis.serve(lab, places, only)
    for first in (True, False):
        found = [h for h in hosts if h.weave is not None and weaving.founds(h) == first]
        together(found, lambda host: weaving.launch(lab, host, places))
    together(hosts, lambda host: _inhabit(lab, host, places, say))
    facts = Facts(lab, places)
    together(hosts, lambda host: lines.firewall(host, places, journal, facts))
    applied.done()
    if all(journal.state("host", host=host.name) == "done" for host in lab.hosts):
        journal.note("done", "lab")


def daemon_flags(lab: Lab, places: Places) -> dict[str, tuple[str, ...]]:
    """Flags of each host's netkitd."""
    return {h.name: flags(lab, h, places) for h in lab.hosts if h.daemon is not None}


def same_lab(lab: Lab, journal: Journal) -> None:
    """Conflict where a lab of that name came from another folder."""
    other = journal.fact("lab", "folder")
    if journal.exists() and other != lab.folder:
        raise Conflict(
            f"a lab {lab.name} from {other} is up: take it down first (netkit lab down "
            f"{lab.name}), or give this one another name (--name)"
        )


def strangers(places: Places, hosts: Iterable[str]) -> None:
    """Refuse to build where names are taken: as none of ours exists, they are foreign."""
    for host in hosts:
        if netns.present(places.netns(host)):
            name = places.namespace(host)
            raise Conflict(
                f"a network namespace {name} exists, and no lab made it: remove it "
                f"(ip netns del {name}) or give the lab another name (--name)"
            )


def _namespace(journal: Journal, places: Places, host: str) -> None:
    journal.note("begin", "host", host=host)
    netns.create(places.netns(host))


def together(hosts: Sequence[LabHost], act: Callable[[LabHost], None]) -> None:
    """Run it for all hosts at once; all have ended when this returns or raises the first error."""
    with ThreadPoolExecutor(max(1, len(hosts)), thread_name_prefix="lab") as pool:
        futures = [pool.submit(act, host) for host in hosts]
    errors = [error for f in futures if (error := f.exception())]
    for other in errors[1:]:
        errors[0].add_note(f"and: {other}")
    if errors:
        raise errors[0]


def make_host(lab: Lab, host: LabHost, places: Places, journal: Journal) -> None:
    """Namespace, wires, switch and daemon of a host; a half made one is made anew."""
    ns = places.netns(host.name)
    if journal.state("host", host=host.name) != "done" or not netns.exists(ns):
        if journal.state("host", host=host.name):
            forget(places, journal, host.name)
        _namespace(journal, places, host.name)
        fabric.lay(lab, places, *fabric.wires(lab, host, ns))
        if host.engine != NETKIT:
            engines.prepare(host, places)
            mounts.establish(places, host.name)
        if host.ovs:
            _switch(places, host)  # so that setup can talk to it: ovs-vsctl add-br
        for line in host.setup:
            run(places, host.name, line)
        journal.note("done", "host", host=host.name)
    revive(lab, places, host)


def revive(lab: Lab, places: Places, host: LabHost) -> None:
    """Start a host's Open vSwitch, daemon and engine where they have died, as its init would.

    KernelError if something does not start.
    """
    if host.ovs:
        _switch(places, host)
        if lab.ovn:
            chassis.control(places, host)
    if host.daemon is not None:
        _start(lab, host, places)
    engines.ensure(host, places)


def _inhabit(lab: Lab, host: LabHost, places: Places, say: Say) -> None:
    if host.daemon is None:
        return
    with closing(engines.engine(places, host.name)) as engine:
        populate(lab, host, places, engine, say)
    say(f"{host.name}: up")


def _switch(places: Places, host: LabHost) -> None:
    home, folder = places.netns(host.name), Path(places.ovs(host.name))
    try:
        OpenVSwitch(home, folder, segmenting=host.ovs_tso).start()
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as e:
        raise KernelError(f"Open vSwitch of {host.name}: {e}") from e


def flags(lab: Lab, host: LabHost, places: Places) -> tuple[str, ...]:
    """Of its daemon: those of lab.yml, and where its Open vSwitch, cluster and OVN are."""
    own = (f"--ovs-db=unix:{places.ovs(host.name)}/db.sock",) if host.ovs else ()
    mine = (*engines.flags(host, places), *chassis.flags(lab, host))
    return (*(host.daemon or ()), *own, *clustering.flags(lab, host), *mine)


# down


def down(places: Places, only: str = "") -> bool:
    """Remove all of the lab, or of its host `only`; False if there was nothing.

    Needs no lab.yml.
    """
    if not os.path.isdir(places.state):
        return False
    with only_one(places):
        journal = Journal(places.folder)
        if not journal.exists():
            return False
        if not only:
            _down(places, journal)
        elif only != UNDERLAY and journal.state("host", host=only):
            journal.note("begin", "lab", folder=journal.fact("lab", "folder"))
            forget(places, journal, only)
        else:
            return False
        return True


def _down(places: Places, journal: Journal) -> None:
    hosts = journal.begun("host", "host")
    inner = [h for h in hosts if h != UNDERLAY]
    plain = [h for h in inner if not any(map(os.path.lexists, Remains.of(places, h).folders))]
    # Each sweep looks at all processes of the machine: one for all that are a namespace alone.
    sweep(Remains((), tuple(places.netns(h) for h in plain)))
    inner = [h for h in inner if h not in set(plain)]
    with ThreadPoolExecutor(max(1, len(inner)), thread_name_prefix="lab") as pool:
        list(pool.map(lambda host: forget(places, journal, host), inner))
    if UNDERLAY in hosts:
        forget(places, journal, UNDERLAY)
    sweep(Remains((places.roots,), ()))
    with suppress(OSError):
        os.rmdir(places.short)  # the last lab is down; else it is not empty
    journal.remove()


def forget(places: Places, journal: Journal, host: str) -> None:
    """Remove a host with all that is its; an absent one is fine."""
    if host != UNDERLAY:
        impairing.forget(places, host)
    sweep(Remains.of(places, host))
    journal.note("gone", "host", host=host)
    Record(places.folder).forget(host)


def restart(lab: Lab, places: Places, host: str) -> None:
    """Stop one host's daemon and start it again, as its init would.  NotFound if it has none."""
    found = lab.host(host)
    if found is None or found.daemon is None:
        raise NotFound(f"lab {lab.name} has no daemon on {host!r}")
    LabDaemon(places, host).stop()
    _start(lab, found, places)


def _start(lab: Lab, host: LabHost, places: Places) -> None:
    """Start its netkitd unless it runs, and record with which flags."""
    daemon, given = LabDaemon(places, host.name), flags(lab, host, places)
    runs = bool(daemon.pids())
    daemon.ensure(given)
    if not runs and (record := Record(places.folder)).exists():
        record.done([((parts.DAEMON, host.name), list(given))])

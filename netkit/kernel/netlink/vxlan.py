"""The tables of VXLAN devices: which peer gets frames to which MAC address."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.netlink import tunnels
from netkit.kernel.netlink.observe import MARK
from netkit.kernel.session import Session
from netkit.model import Key, Resource
from netkit.model.vxlan import VxlanFdb
from netkit.reconcile.plan import Op

GONE = frozenset({errno.ENOENT, errno.ENODEV})


def observe(session: Session, keys: Collection[Key]) -> dict[Key, Resource]:
    wanted = sorted(k for k in keys if k[0] == "vxlanfdb")
    out: dict[Key, Resource] = {}
    for ns, dev in sorted({(k[1], k[2]) for k in wanted}):
        link = session.link(ns, dev) if session.exists(ns) else None
        if link is None:
            continue
        owner = link.alias if link.alias.startswith(MARK) else None
        there = tunnels.port(session.netlink(ns), link.index).tunnels
        for mac, peer in there:
            r = VxlanFdb(dev=dev, ns=ns, mac=mac, peer=IPv4Address(peer), owner=owner)
            out[r.key] = r
    return {k: out[k] for k in wanted if k in out}


def apply(session: Session, ops: Sequence[Op]) -> None:
    """Do the steps in order; what is gone with its device is deleted."""
    session.forget_links()
    for done, op in enumerate(ops):
        r = op.subject
        assert isinstance(r, VxlanFdb)
        link = session.link(r.ns, r.dev)
        if link is None:
            if op.after is None:
                continue
            raise KernelError(f"{op} failed: there is no {r.dev}", errno=errno.ENODEV, done=done)
        make = tunnels.del_tunnel if op.after is None else tunnels.new_tunnel
        reply = session.netlink(r.ns).run([make(link.index, r.mac, r.peer)])[0]
        if op.after is None and reply.errno in GONE:
            continue
        try:
            reply.check(f"{op}")
        except KernelError as e:
            e.done = done
            raise


ADAPTER = Adapter(
    types=(VxlanFdb,), kinds=frozenset({"vxlanfdb"}), observe=observe, apply=apply, placed=True
)

"""Redirects of a bridge port to its bridge's own IP stack: tc filters of kind bpf (tc-bpf(8)).

Each is an eBPF program for the frames of one MAC address to the bridge's (bpf-helpers(7),
bpf_redirect).  The filter's name holds a digest of the program, and with it of the bridge's index
and address: a filter for a bridge of the past is not seen.  The qdisc clsact stays with the link.
Numbers: linux/rtnetlink.h, pkt_sched.h, pkt_cls.h.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from functools import cache

from netkit.errors import KernelError
from netkit.kernel import bpf, netns
from netkit.kernel.adapter import Adapter
from netkit.kernel.netlink.codec import (
    CREATE,
    EXCL,
    REPLACE,
    Netlink,
    Reply,
    Request,
    attributes,
    nest,
    string,
)
from netkit.kernel.netlink.codec import number as u32
from netkit.kernel.netlink.observe import MARK
from netkit.kernel.netlink.rtnl import SeenLink
from netkit.kernel.session import Session
from netkit.model import BridgeRedirect, Key, Resource
from netkit.reconcile.plan import Op

log = logging.getLogger(__name__)

NEWQDISC, NEWFILTER, DELFILTER, GETFILTER = 36, 44, 45, 46
TCMSG = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info
CLSACT, INGRESS, EGRESS = 0xFFFFFFF1, 0xFFFFFFF2, 0xFFFFFFF3
TCA_KIND, TCA_OPTIONS = 1, 2
BPF_FD, BPF_NAME, BPF_FLAGS, DIRECT = 6, 7, 8, 1
PRIORITY = 28267  # "nk": leaves room before and behind it for filters of other tools
INFO = PRIORITY << 16 | int.from_bytes(b"\x08\x00", sys.byteorder)  # and IPv4, network order
GONE = frozenset({errno.ENOENT, errno.EINVAL, errno.ENODEV})  # EINVAL: there is no clsact


def program(index: int, bridge: str, mac: str) -> bytes:
    """Redirect IPv4 from `mac` to `bridge`, both MAC addresses, into link `index`; else pass on."""
    header = bytes.fromhex((bridge + mac).replace(":", "")) + b"\x08\x00"
    body: list[bytes] = []
    for width, load, at in (4, 0x61, 0), (4, 0x61, 4), (4, 0x61, 8), (2, 0x69, 12):
        value = int.from_bytes(header[at : at + width], sys.byteorder)
        left = 10 - at // 2  # instructions from the comparison to "pass on"
        body += [
            bpf.instruction(load, 5, 2, at),
            bpf.instruction(0x56, 5, 0, left, value),  # if w5 != value: pass on
        ]
    body += [
        bpf.instruction(0xB7, 1, value=index),
        bpf.instruction(0xB7, 2, value=1),  # BPF_F_INGRESS
        bpf.instruction(0x85, value=23),  # bpf_redirect
        bpf.instruction(0x95),
    ]
    return b"".join(
        (
            bpf.instruction(0x61, 2, 1, 76),  # r2 = data
            bpf.instruction(0x61, 3, 1, 80),  # r3 = data_end
            bpf.instruction(0xBF, 4, 2),
            bpf.instruction(0x07, 4, value=14),
            bpf.instruction(0x2D, 4, 3, len(body)),  # if r4 > r3: pass on
            *body,
            *PASS,
        )
    )


PASS = (bpf.instruction(0xB7, value=-1), bpf.instruction(0x95))  # TC_ACT_UNSPEC


@cache
def supported() -> bool:
    """Whether the kernel loads such programs and takes them as filters; warn once if not."""
    try:
        _try_out()
    except (KernelError, OSError) as e:
        log.warning(
            "no redirects at bridge ports, the kernel takes no eBPF filter: %s; with icc=false and "
            "net.bridge.bridge-nf-call-iptables=1 published ports are not reached by the host's "
            "address from the containers of that network",
            e,
        )
        return False
    return True


def _try_out() -> None:
    """Add a filter that does nothing to lo of a scratch namespace.  KernelError, OSError."""
    with netns.scratch(), Netlink() as netlink:
        fd = bpf.load(bpf.SCHED_CLS, b"".join(PASS))
        try:
            for reply in netlink.run(_added(1, fd, "netkit")):
                reply.check("add an eBPF filter to lo")
        finally:
            os.close(fd)


def observe(session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
    """Observe working redirects; where the kernel can have none, all whose port exists."""
    out: dict[Key, Resource] = {}
    for key in keys:
        _, ns, dev, bridge, mac = key
        port = session.link(ns, dev) if session.exists(ns) else None
        if port is None:
            continue
        owner = port.alias if port.alias.startswith(MARK) else None
        r = BridgeRedirect(dev=dev, bridge=bridge, mac=mac, ns=ns, owner=owner)
        if not supported() or _name(session, r) in _names(session, ns, port.index):
            out[key] = r
    return out


def apply(session: Session, ops: Sequence[Op]) -> None:
    """Add and remove filters one by one.  KernelError whose `done` counts those that were."""
    session.forget_links()
    for done, op in enumerate(ops):
        r = op.subject
        assert isinstance(r, BridgeRedirect)
        try:
            _remove(session, r) if op.after is None else _add(session, r)
        except KernelError as e:
            e.done = done
            raise


def _add(session: Session, r: BridgeRedirect) -> None:
    port, code = session.link(r.ns, r.dev), _code(session, r)
    if port is None or code is None:
        raise KernelError(f"+ {r} failed: no such link", errno=errno.ENODEV)
    if not supported():
        return
    try:
        fd = bpf.load(bpf.SCHED_CLS, code)
    except OSError as e:
        raise KernelError(f"+ {r} failed: {e.strerror}", errno=e.errno) from e
    try:
        made, added = session.netlink(r.ns).run(_added(port.index, fd, _digest(code)))
    finally:
        os.close(fd)
    if made.errno != errno.EEXIST:
        made.check(f"add {r}")
    added.check(f"add {r}")


def _added(index: int, fd: int, name: str) -> list[Request]:
    """Requests for the qdisc, which may be there, and the filter."""
    options = u32(BPF_FD, fd) + string(BPF_NAME, name) + u32(BPF_FLAGS, DIRECT)
    head = TCMSG.pack(0, index, 0xFFFF0000, CLSACT, 0) + string(TCA_KIND, "clsact")
    body = _filter(index) + nest(TCA_OPTIONS, options)
    return [Request(NEWQDISC, head, CREATE | EXCL), Request(NEWFILTER, body, CREATE | REPLACE)]


def _remove(session: Session, r: BridgeRedirect) -> None:
    """Delete the filter; the kernel may have deleted it with its port."""
    port = session.link(r.ns, r.dev) if session.exists(r.ns) else None
    if port is None:
        return
    if not present(session, r.ns, port.index):
        return  # deleted, or another tool's filter has its place
    reply: Reply = session.netlink(r.ns).run([Request(DELFILTER, _filter(port.index))])[0]
    if reply.errno not in GONE:
        reply.check(f"remove {r}")


def _filter(index: int) -> bytes:
    return TCMSG.pack(0, index, 1, INGRESS, INFO) + string(TCA_KIND, "bpf")


def _names(session: Session, ns: str, index: int) -> set[bytes]:
    """Of the bpf filters of this priority at a link."""
    head = TCMSG.pack(0, index, 0, INGRESS, INFO)
    found = (attributes(m, TCMSG.size) for m in session.netlink(ns).dump(Request(GETFILTER, head)))
    return {
        attributes(a[TCA_OPTIONS]).get(BPF_NAME, b"").rstrip(b"\0")
        for a in found
        if a.get(TCA_KIND) == b"bpf\0" and TCA_OPTIONS in a
    }


def present(session: Session, ns: str, index: int) -> bool:
    """Whether a link has a redirect of netkit's, for its present bridge or a former one."""
    return any(name.startswith(MARK.encode()) for name in _names(session, ns, index))


def leads(session: Session, ns: str, port: SeenLink, macs: Iterable[str]) -> bool:
    """Whether a filter at a bridge port redirects frames from these MAC addresses to its bridge of
    today?  Where the addresses are not known (no locked ports before Linux 5.18), any filter."""
    bridge = session.link(ns, port.master) if port.master else None
    if bridge is None:
        return False
    made = {_digest(program(bridge.index, bridge.mac, mac)).encode() for mac in macs}
    names = _names(session, ns, port.index)
    return bool(made & names) if made else any(n.startswith(MARK.encode()) for n in names)


def others(netlink: Netlink, index: int) -> bool:
    """Whether a link's clsact has filters that are not redirects of netkit's."""
    for parent in (INGRESS, EGRESS):
        for m in netlink.dump(Request(GETFILTER, TCMSG.pack(0, index, 0, parent, 0))):
            _, _, handle, _, _ = TCMSG.unpack_from(m)
            options = attributes(attributes(m, TCMSG.size).get(TCA_OPTIONS, b""))
            if handle and not options.get(BPF_NAME, b"").startswith(MARK.encode()):
                return True  # without a handle it is the place of filters, not one
    return False


def _name(session: Session, r: BridgeRedirect) -> bytes | None:
    code = _code(session, r)
    return _digest(code).encode() if code is not None else None


def _code(session: Session, r: BridgeRedirect) -> bytes | None:
    """Return the program for the bridge as it is now; None where there is none."""
    bridge = session.link(r.ns, r.bridge)
    return program(bridge.index, bridge.mac, r.mac) if bridge else None


def _digest(code: bytes) -> str:
    return f"netkit:{hashlib.sha256(code).hexdigest()[:16]}"


ADAPTER = Adapter(
    types=(BridgeRedirect,),
    kinds=frozenset({"redirect"}),
    observe=observe,
    apply=apply,
    placed=True,
)

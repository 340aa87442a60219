"""The local port of an Open vSwitch bridge, as an interface of the host.

For tunnels of the userspace datapath it bears an address that OVS is to take for its own and the
host is not: then the address has no route in the table `local`, and packets to it go on to OVS.
"""

from __future__ import annotations

import errno
import time
from dataclasses import replace

from netkit.errors import KernelError
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import CREATE, REPLACE, Request, attr, attributes, number
from netkit.kernel.netlink.kinds import TAP, TUN
from netkit.kernel.netlink.rtnl import SeenLink
from netkit.kernel.session import Session
from netkit.model import HOST, IPInterface
from netkit.model.openvswitch import OvsBridge

PATIENCE = 5.0  # seconds until the interface exists that ovs-vswitchd reported
IFA_FLAGS, NOPREFIXROUTE = 8, 0x200  # linux/if_addr.h
RT_TABLE_LOCAL, RTN_LOCAL = 255, 2  # linux/rtnetlink.h
ANY = 0
GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL})


def observed(session: Session, bridge: OvsBridge) -> OvsBridge:
    link = session.link(HOST, bridge.name)
    if link is None:
        return replace(bridge, up=False)
    for seen in map(rtnl.seen_addr, session.netlink(HOST).dump(rtnl.addresses(link.index))):
        if seen.proto == rtnl.RTPROT_NETKIT or seen.address.version != 4:
            continue
        if not _the_hosts(session, seen.address):
            return replace(bridge, up=link.up, tunnel_address=seen.address)
    return replace(bridge, up=link.up)


def arrange(session: Session, want: OvsBridge) -> None:
    link = raised(session, want.name, up=want.up)
    if want.tunnel_address is not None:
        _bear(session, link, want.tunnel_address)
    session.forget_links()


def raised(session: Session, name: str, *, up: bool | None) -> SeenLink:
    """The interface that ovs-vswitchd makes, set up, or down, or left as it is."""
    link = _local(session, name)
    if up is not None:
        changed = rtnl.set_link(link.index, up=up)
        session.netlink(HOST).run([changed])[0].check(f"set {name} {'up' if up else 'down'}")
        session.forget_links()
    return link


def clear(session: Session, name: str) -> None:
    """Delete the leftover tap of a deleted bridge or port that had the netdev datapath.

    Its port is a tap device, which ovs-vswitchd makes persistent: one that was killed took it along
    to nowhere, and the next knows of those in the database only.
    """
    session.forget_links()
    link = session.link(HOST, name)
    if link is None or link.kind not in {TAP, TUN}:
        return
    removed = session.netlink(HOST).run([rtnl.del_link(link.index)])[0]
    if removed.errno not in {*GONE, errno.ENODEV}:
        removed.check(f"remove {name}")
    session.forget_links()


def _local(session: Session, name: str) -> SeenLink:
    deadline = time.monotonic() + PATIENCE
    while True:
        session.forget_links()
        if (link := session.link(HOST, name)) is not None:
            return link
        if time.monotonic() > deadline:
            raise KernelError(f"Open vSwitch made {name}, but there is no interface {name}")
        time.sleep(0.01)


def _bear(session: Session, link: SeenLink, address: IPInterface) -> None:
    """Add the address, then delete its local route: the host must not accept packets for it."""
    # Both requests in one send, so that the host accepts packets for it as briefly as can be.
    raw = attr(rtnl.IFA_LOCAL, address.packed) + attr(rtnl.IFA_ADDRESS, address.packed)
    head = rtnl.IFADDR.pack(2, address.network.prefixlen, 0, rtnl.SCOPE_UNIVERSE, link.index)
    add = Request(rtnl.NEWADDR, head + raw + number(IFA_FLAGS, NOPREFIXROUTE), CREATE | REPLACE)
    local = rtnl.ROUTE.pack(
        2, 32, 0, 0, RT_TABLE_LOCAL, ANY, rtnl.SCOPE_NOWHERE, RTN_LOCAL, 0
    ) + attr(rtnl.RTA_DST, address.ip.packed)
    added, removed = session.netlink(HOST).run([add, Request(rtnl.DELROUTE, local)])
    added.check(f"give {address} to {link.name}")
    if removed.errno not in GONE:
        removed.check(f"keep {address} from the host")


def _the_hosts(session: Session, address: IPInterface) -> bool:
    head = rtnl.ROUTE.pack(2, 32, 0, 0, 0, 0, 0, 0, 0)
    ask = Request(rtnl.GETROUTE, head + attr(rtnl.RTA_DST, address.ip.packed))
    reply = session.netlink(HOST).run([ask])[0]
    if not reply.messages:
        return False
    kind = rtnl.ROUTE.unpack_from(reply.messages[0])[7]
    return bool(kind == RTN_LOCAL) and bool(attributes(reply.messages[0], 12))

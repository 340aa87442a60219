"""IP sets by netlink: list and create them, and swap new content in atomically.

    request | nfgenmsg | PROTOCOL 6 | SETNAME | ... DATA or ADT{DATA{IP, CIDR, COMMENT, LINENO}*}

Numbers: linux/netfilter/ipset/ip_set.h.  A set takes 0.2 ms, each member 1 us to write.

Packed by hand, for sets are read and swapped while containers start, as access rules name them:
1,000 members take 18 ms of CPU time to read, 100 with pyroute2's ipset_msg; and its IPSet sends a
member at a time.
"""

from __future__ import annotations

import contextlib
import errno
import re
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.iptables.nft_compat import FAMILIES, HEADER
from netkit.kernel.netlink.codec import (
    EXCL,
    Netlink,
    Reply,
    Request,
    attr,
    attributes,
    nest,
    string,
)
from netkit.kernel.session import Session
from netkit.model import Key
from netkit.model.ipset import HASH_NET, IPSET_PREFIX, IpSet
from netkit.reconcile.plan import Op

SUBSYSTEM = 6 << 8  # NFNL_SUBSYS_IPSET
CREATE, DESTROY, SWAP, LIST, ADD, TYPE = (SUBSYSTEM | n for n in (2, 3, 6, 7, 9, 13))
PROTOCOL_VERSION = 6  # the oldest that kernels since 2011 take, all there is to it here
PROTOCOL, SETNAME, TYPENAME, SETNAME2, REVISION, FAMILY, DATA, ADT, LINENO = (
    1, 2, 3, 3, 4, 5, 7, 8, 9,
)  # fmt: skip
IP, CIDR, CADT_FLAGS, MAXELEM, REFERENCES, COMMENT = 1, 3, 8, 19, 25, 26  # within DATA
IPV4 = 1  # within IP
NET_BYTEORDER = 0x4000
WITH_COMMENT = 1 << 4
LEAST = 65536  # maxelem; the kernel's default
LONGEST_NAME = 31  # IPSET_MAXNAMELEN - 1
OURS = re.compile(re.escape(IPSET_PREFIX) + "[0-9a-f]{12}~?")
MARK = "netkit:"
SPARE = "~"  # ends the name of the set that a change is prepared in
CHUNK = 400  # members a message: an attribute holds 64 KiB
BUSY = 4100  # IPSET_ERR_BUSY
ERRORS = {
    4098: "the kernel has no hash:net sets",
    BUSY: "a rule refers to it",
    4102: "the other set is of another type",
    4104: "0.0.0.0/0 cannot be a member of a set",
    4352: "the set is full",  # IPSET_ERR_HASH_FULL
}
PATIENCE = 1.0  # seconds; nf_tables releases a set some time after its rule is deleted


def observe(session: Session, keys: Iterable[Key]) -> dict[Key, IpSet]:
    netlink = session.nftables()
    names = sorted({key[2] for key in keys})
    found = (s for name in names for s, _ in _listed(netlink, name))
    wanted = set(keys)
    return {s.key: s for s in found if s.key in wanted}


def owned(session: Session, prefix: str) -> dict[Key, IpSet]:
    """Sets that are marked so, those that a change was prepared in included; and those of
    another tool that have a name of ours and that no rule refers to."""
    out: dict[Key, IpSet] = {}
    for s, used in _listed(session.nftables(), None):
        if s.owner is None and not used and OURS.fullmatch(s.name):
            s = replace(s, owner=f"{prefix}stray")  # noqa: PLW2901
        if (s.owner or "").startswith(prefix):
            out[s.key] = s
    return out


def apply(session: Session, ops: Sequence[Op]) -> None:
    netlink = session.nftables()
    for done, op in enumerate(ops):
        try:
            _step(netlink, op)
        except KernelError as e:
            e.done = done
            raise


def _step(netlink: Netlink, op: Op) -> None:
    match op.before, op.after:
        case None, IpSet() as new:
            _make(netlink, new, new.name)
        case IpSet(), IpSet() as new:
            _replace(netlink, new)
        case IpSet() as old, None:
            _destroy(netlink, old.name, PATIENCE)


def _replace(netlink: Netlink, new: IpSet) -> None:
    spare = new.name + SPARE
    with contextlib.suppress(KernelError):
        _destroy(netlink, spare, 0)  # of a change that was cut short
    _make(netlink, new, spare)
    try:
        body = _named(spare) + string(SETNAME2, new.name)
        _do(netlink, [Request(SWAP, body)], f"swap new content into set {new.name}")
    finally:
        # After the swap the spare has the former content, after a failure the new one.
        _destroy(netlink, spare, PATIENCE)


def _make(netlink: Netlink, new: IpSet, name: str) -> None:
    """Create a set with all members, or not at all."""
    if len(name) > LONGEST_NAME:
        raise KernelError(f"set {name}: a name has at most {LONGEST_NAME - len(SPARE)} characters")
    if new.family != 4:
        raise KernelError(f"set {name}: only IPv4 for now")
    options = attr(MAXELEM | NET_BYTEORDER, max(LEAST, len(new.members)).to_bytes(4, "big"))
    options += attr(CADT_FLAGS | NET_BYTEORDER, WITH_COMMENT.to_bytes(4, "big"))
    body = (
        _named(name)
        + string(TYPENAME, HASH_NET)
        + attr(REVISION, bytes([_revision(netlink)]))
        + attr(FAMILY, bytes([FAMILIES[4]]))
        + nest(DATA, options)
    )
    _do(netlink, [Request(CREATE, body, EXCL)], f"make set {name}")
    try:
        _do(netlink, list(_additions(new, name)), f"fill set {name}")
    except KernelError:
        _destroy(netlink, name, 0)
        raise


def _additions(new: IpSet, name: str) -> Iterator[Request]:
    comment = string(COMMENT, new.owner) if new.owner else b""
    for start in range(0, len(new.members), CHUNK):
        members = new.members[start : start + CHUNK]
        packed = (
            nest(DATA, _member(n), comment, attr(LINENO | NET_BYTEORDER, struct.pack(">I", i)))
            for i, n in enumerate(members, start + 1)
        )
        lineno = attr(LINENO | NET_BYTEORDER, struct.pack(">I", start + 1))
        yield Request(ADD, _named(name) + nest(ADT, *packed) + lineno, EXCL)


def _member(n: IPv4Network) -> bytes:
    address = nest(IP, attr(IPV4 | NET_BYTEORDER, n.network_address.packed))
    return address + attr(CIDR, bytes([n.prefixlen]))


def _destroy(netlink: Netlink, name: str, patience: float) -> None:
    """Delete a set; no error if there is none."""
    until = time.monotonic() + patience
    while True:
        reply = netlink.run([Request(DESTROY, _named(name))])[0]
        if reply.errno != BUSY or time.monotonic() >= until:
            break
        time.sleep(0.01)
    if reply.errno != errno.ENOENT:
        _check(reply, f"remove set {name}")


def _revision(netlink: Netlink) -> int:
    """Return the newest revision of hash:net that this kernel has."""
    body = _head() + string(TYPENAME, HASH_NET) + attr(FAMILY, bytes([FAMILIES[4]]))
    reply = netlink.run([Request(TYPE, body)])[0]
    _check(reply, "find out about hash:net sets")
    return attributes(reply.messages[0], 4)[REVISION][0]


def _listed(netlink: Netlink, name: str | None) -> Iterator[tuple[IpSet, bool]]:
    """List one set by name, or all with names like ours; and whether a rule refers to it.

    The mark of a set is that of its members; members without one are another tool's.
    """
    found: dict[str, _Found] = {}
    for message in _messages(netlink, _named(name) if name is not None else _head()):
        a = attributes(message, 4)
        said = a[SETNAME].rstrip(b"\0").decode(errors="replace")
        if TYPENAME in a and (name is not None or said.startswith(IPSET_PREFIX)):
            kind = a[TYPENAME].rstrip(b"\0").decode(errors="replace")
            four = not kind.startswith("hash:") or a[FAMILY][0] == FAMILIES[4]
            uses = int.from_bytes(attributes(a.get(DATA, b"")).get(REFERENCES, b""), "big")
            found.setdefault(said, _Found(kind if four else f"{kind} inet6", bool(uses)))
        if said in found and found[said].kind == HASH_NET and ADT in a:
            for network, comment in map(_seen, _each(a[ADT])):
                found[said].members.append(network)
                if comment.startswith(MARK):
                    found[said].marks.add(comment)
    for said, each in sorted(found.items()):
        owner = each.marks.pop() if len(each.marks) == 1 else None
        members = tuple(sorted(each.members))
        yield IpSet(name=said, members=members, owner=owner, kind=each.kind), each.used


@dataclass(slots=True)
class _Found:
    kind: str
    used: bool
    members: list[IPv4Network] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)


def _messages(netlink: Netlink, body: bytes) -> list[bytes]:
    try:
        return netlink.dump(Request(LIST, body))
    except KernelError as e:
        if e.errno == errno.EINVAL:  # nfnetlink's error where the kernel has no ipset support
            return []
        raise


def _each(data: bytes) -> Iterator[bytes]:
    """Payloads of attributes of one type that follow each other."""
    offset = 0
    while offset + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, offset)
        yield data[offset + 4 : offset + length]
        offset += max((length + 3) & ~3, 4)


def _seen(data: bytes) -> tuple[IPv4Network, str]:
    a = attributes(data)
    address = IPv4Address(attributes(a[IP])[IPV4])
    bits = a[CIDR][0] if CIDR in a else 32
    return IPv4Network((address, bits)), a.get(COMMENT, b"").rstrip(b"\0").decode(errors="replace")


def _head() -> bytes:
    return HEADER.pack(FAMILIES[4], 0, 0) + attr(PROTOCOL, bytes([PROTOCOL_VERSION]))


def _named(name: str) -> bytes:
    return _head() + string(SETNAME, name)


def _do(netlink: Netlink, requests: Sequence[Request], what: str) -> None:
    for reply in netlink.run(requests):
        _check(reply, what)


def _check(reply: Reply, what: str) -> None:
    if why := ERRORS.get(reply.errno):
        raise KernelError(f"cannot {what}: {why}", errno=reply.errno)
    reply.check(what)


ADAPTER = Adapter(
    types=(IpSet,),
    kinds=frozenset({"ipset"}),
    observe=observe,
    apply=apply,
    owned=owned,
    policy=True,
)

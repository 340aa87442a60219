"""Check the senders of VXLAN frames: a table of nf_tables, before the kernel unpacks them.

    table ip netkit-weave
      set senders     outer source . number of the network . inner source MAC
      set addresses   the same . inner IPv4 source address
      chain input     udp dport PORT -> vxlan
      chain vxlan     the way back to the source is not the way it came     count, drop
                      IPv4   its MAC and address are in @addresses          accept
                      ARP    so are those it speaks for, and its own MAC    accept
                      all else                                              count, drop

The first is for containers of other networks on this host, which may forge any source (RFC 3704,
2.2, strict reverse path); rp_filter need not be set.  So a peer may send from the addresses of its
own containers, on their networks, and from nothing else; other hosts may not send at all.
All is looked up in two sets, whatever the number of peers.  The table is not marked as netkitd's,
which would sweep it: the overlay process keeps it.

    offset in bits from the UDP header (RFC 768, RFC 7348, RFC 894, RFC 826)
     96  VXLAN network identifier, 24         240  IPv4 header, its source at 336
    176  source MAC, 48                       240  ARP: sender's MAC at 304, address at 352
    224  EtherType, 16

Fragments have been put together before this hook.  What is accepted here, other tables may still
drop: a host's own firewall has to let in the port.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER
from netkit.kernel.netlink.codec import CREATE, Netlink, Request
from netkit.kernel.nftables import read
from netkit.kernel.nftables.elements import DELSETELEM, NEWSETELEM
from netkit.kernel.nftables.run import Nft
from netkit.model.nftables import Hook

TABLE = "netkit-weave"
SENDERS, ADDRESSES = "senders", "addresses"
HOOK = Hook(kind="filter", point="input", priority=-300)  # before other tools' rules, and conntrack
AT_ONCE = 1000  # elements a message: a list of attributes has 64 KiB at most
WITHOUT_ADDRESS = 16  # bytes of a key of @senders
SIZE = 1 << 20  # elements a set may have
PEER = "ip saddr . @th,96,24"
RULES = (
    ("input", "udp dport {port} jump vxlan"),
    ("vxlan", "fib saddr . iif oif missing counter drop"),
    ("vxlan", f"@th,224,16 0x0800 {PEER} . @th,176,48 . @th,336,32 @addresses accept"),
    ("vxlan", f"@th,224,16 0x0806 {PEER} . @th,176,48 @senders "
              f"{PEER} . @th,304,48 . @th,352,32 @addresses accept"),
    ("vxlan", "counter drop"),
)  # fmt: skip


def sender(peer: bytes, vni: int, mac: str, address: bytes = b"") -> bytes:
    """A key as nf_tables keeps it, each field padded to four bytes: of @addresses, or @senders.

    What may come in from the outer source `peer`; addresses are four bytes each.
    """
    inner = bytes.fromhex(mac.replace(":", ""))
    return peer + vni.to_bytes(3, "big") + b"\0" + inner + b"\0\0" + address


def definition(port: int) -> str:
    """The table, empty, as nft's text; each rule's comment has a digest of all of it."""
    body = "\n".join(f"{chain} {rule.format(port=port)}" for chain, rule in RULES)
    digest = hashlib.sha256(f"{SIZE}\n{body}".encode()).hexdigest()[:16]
    rules = "".join(
        f'add rule ip {TABLE} {chain} {rule.format(port=port)} comment "{_comment(digest, n)}"\n'
        for n, (chain, rule) in enumerate(RULES)
    )
    return (
        f"add table ip {TABLE}\n"
        f"delete table ip {TABLE}\n"
        f"add table ip {TABLE}\n"
        f"add set ip {TABLE} {SENDERS} {{ typeof {PEER} . @th,176,48; size {SIZE}; }}\n"
        f"add set ip {TABLE} {ADDRESSES} "
        f"{{ typeof {PEER} . @th,176,48 . @th,336,32; size {SIZE}; }}\n"
        f"add chain ip {TABLE} vxlan\n"
        f"add chain ip {TABLE} input {{ type filter hook input priority {HOOK.priority}; }}\n"
        f"{rules}"
    )


def _comment(digest: str, n: int) -> str:
    return f"weave senders {digest} {n}"


class SenderCheck:
    """Of the namespace at `home`, for frames to UDP port `port`.  For one thread at a time."""

    def __init__(self, home: str, port: int) -> None:
        self._nft = Nft(home)
        self._definition = definition(port)

    def intact(self, netlink: Netlink) -> bool:
        """Whether the table is there as it was made, without rules of others."""
        chains = {c.name: c for c in read.chains(netlink, TABLE)}
        if set(chains) != {"input", "vxlan"} or chains["input"].hook != HOOK:
            return False
        if chains["input"].default != "accept":
            return False
        mine = [line.split('"')[1] for line in self._definition.splitlines() if '"' in line]
        # Chain by chain, in the order of their rules.
        found = sorted(read.comments(netlink, TABLE), key=lambda each: each[0])
        return [comment for _, comment in found] == mine

    def make(self, netlink: Netlink, senders: Collection[bytes]) -> None:
        """Make the table anew, with these; what was there is replaced at once.

        KernelError where the kernel has no nf_tables, or there is no nft; then there is no table,
        and frames must not be let in.
        """
        # Empty at first: until the elements are added, frames are dropped.
        self._nft.apply(self._definition)
        self.change(netlink, senders, ())

    def present(self, netlink: Netlink) -> bool:
        return any(t.name == TABLE for t in read.tables(netlink))

    def remove(self) -> None:
        """Delete the table.  KernelError if there is none."""
        self._nft.apply(f"delete table ip {TABLE}\n")

    def senders(self, netlink: Netlink) -> set[bytes]:
        """The keys that are there, of both sets: see `sender`."""
        out: set[bytes] = set()
        for name in (SENDERS, ADDRESSES):
            out.update(read.keys(netlink, TABLE, name))
        return out

    def change(
        self, netlink: Netlink, add: Collection[bytes], drop: Collection[bytes]
    ) -> None:
        """Add and remove elements: all or nothing.  KernelError, also if one is not there."""
        if not add and not drop:
            return
        requests = [*_elements(NEWSETELEM, CREATE, add), *_elements(DELSETELEM, 0, drop)]
        done = nft_compat.transact(netlink, requests)
        done.check("change which senders are let in from peers")


State = Literal["intact", "changed", "absent"]


def state(home: str, port: int) -> State:
    """Of the table in the namespace at `home`.  KernelError: nf_tables cannot be asked."""
    with connection(home) as netlink:
        check = SenderCheck(home, port)
        if not check.present(netlink):
            return "absent"
        return "intact" if check.intact(netlink) else "changed"


def connection(home: str) -> Netlink:
    """To nf_tables of the namespace at `home`.  KernelError: the kernel has none."""
    try:
        with netns.inside(home):
            return Netlink(NETLINK_NETFILTER)
    except OSError as e:
        raise KernelError(f"there is no nf_tables: {e}") from e


def _elements(kind: int, flags: int, senders: Iterable[bytes]) -> Iterator[Request]:
    parts: dict[str, list[bytes]] = {}
    for key in sorted(senders):
        parts.setdefault(ADDRESSES if len(key) > WITHOUT_ADDRESS else SENDERS, []).append(key)
    for name, keys in parts.items():
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            yield Request(kind, read.element_list(TABLE, name, some), flags)


__all__ = ["TABLE", "SenderCheck", "State", "connection", "definition", "sender", "state"]

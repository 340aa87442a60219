"""What interfaces leave to ovs-vswitchd's userspace datapath, which reads their packets.

It reads them by packet sockets (packet(7)).  Where it segments TCP (userspace-tso-enable), a packet
has a header before it that says which checksum is missing and how long TCP segments are; where it
does not, such packets are dropped.  So the interface and ovs-vswitchd must agree.

    ovs-vswitchd segments TCP   checksums of TCP and UDP, and segments of TCP, are left to it
    it does not, or is unknown  nothing is

That header knows no other segments, and nothing of packets in packets: UDP_SEGMENT (udp(7)) and
tunnels inside a container are segmented by the container's kernel, SCTP's checksums computed there.
(Datagrams were lost or merged otherwise.)  Version 3.5 also puts the checksum of a packet inside
such a tunnel in the wrong place: there, from where tunnels may come, nothing is left.

Whether it segments is the Interface row's `status:tx_tcp_seg_offload`.  Versions before 3.5 are
left alone: 3.1 has no such word, loses what is behind a smaller MTU and what goes into tunnels.
Local ports (taps) are set up by ovs-vswitchd itself; only what those versions set is turned off.
Sources: ovs, Documentation/topics/userspace-tso.rst; linux/virtio_net.h.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from netkit.errors import KernelError
from netkit.kernel import ethtool
from netkit.kernel.adapter import Adapter
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.vswitchd import SEGMENTS_SINCE, SEGMENTS_TUNNELLED_SINCE, Vswitchd
from netkit.kernel.session import Session
from netkit.model import Key, Resource
from netkit.model.openvswitch import ANY_PACKETS, PortOffload, SegmentedPort
from netkit.reconcile.plan import Op

SEGMENTS = "tx_tcp_seg_offload"  # key in Interface.status
LEFT = frozenset({"tx-tcp-segmentation", "tx-tcp6-segmentation"})
CHECKSUMS = "tx-checksum-"
# Those of TCP and UDP; drivers have the first, or the two others.
SUMS = frozenset({f"{CHECKSUMS}ip-generic", f"{CHECKSUMS}ipv4", f"{CHECKSUMS}ipv6"})

NOT_SEGMENTING = (
    "port {} of a VXLAN device needs an ovs-vswitchd that segments TCP (3.5 or later, started with "
    "other_config:userspace-tso-enable=true): use vxlan-device=ovs"
)

Features = Mapping[str, bool]
Segmented = PortOffload | SegmentedPort


class PortOffloads:
    def __init__(self, database: Ovsdb, daemon: Vswitchd) -> None:
        self._db = database
        self._daemon = daemon

    def adapter(self) -> Adapter:
        return Adapter(
            types=(PortOffload, SegmentedPort),
            kinds=frozenset({"portoffload", "segmentedport"}),
            observe=self.observe,
            apply=self.apply,
            placed=True,
        )

    def observe(self, session: Session, keys: Collection[Key]) -> dict[Key, Resource]:
        """Where Open vSwitch does not answer, nothing is known to differ."""
        wanted = [_named(k) for k in sorted(keys) if k[0] == "portoffload"]
        ports = [SegmentedPort(port=k[1]) for k in sorted(keys) if k[0] == "segmentedport"]
        try:
            segmenting = self._segmenting([*wanted, *ports], patience=0.0)
        except KernelError:
            segmenting = None
        out: dict[Key, Resource] = {
            r.key: replace(r, segmenting=segmenting is None or r.key in segmenting) for r in ports
        }
        for r in wanted:
            if not session.exists(r.ns):
                continue
            try:
                with ethtool.opened(session, r.ns, r.dev) as device:
                    due = {} if segmenting is None else self._due(r, device, segmenting)
            except OSError as e:
                if e.errno in ethtool.ABSENT:
                    continue
                raise KernelError(f"cannot ask {r.dev} for its offloads: {e.strerror}") from e
            out[r.key] = replace(r, matched=not due)
        return out

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """Set in order; deleting one does nothing."""
        wanted = [op.after for op in ops if isinstance(op.after, PortOffload | SegmentedPort)]
        segmenting = self._segmenting(wanted)
        for done, op in enumerate(ops):
            r = op.after
            if isinstance(r, SegmentedPort) and r.segmenting and r.key not in segmenting:
                raise KernelError(NOT_SEGMENTING.format(r.port), done=done)
            if not isinstance(r, PortOffload) or not r.matched:
                continue
            try:
                with ethtool.opened(session, r.ns, r.dev) as device:
                    if due := self._due(r, device, segmenting):
                        device.change(due)
            except OSError as e:
                raise KernelError(f"{op} failed: {e.strerror}", errno=e.errno, done=done) from e

    def _segmenting(
        self, wanted: Sequence[Segmented], patience: float | None = None
    ) -> frozenset[Key]:
        """Those at whose port ovs-vswitchd segments TCP, and is known to do it right."""
        names = {r.port for r in wanted}

        def read(idl: Copy) -> frozenset[str]:
            found = (i for i in rows(idl, "Interface") if i.name in names)
            return frozenset(i.name for i in found if i.status.get(SEGMENTS) == "true")

        found = self._db.view(read, patience) if names else frozenset()
        release = self._daemon.release() if found else (0, 0)
        return frozenset(
            r.key
            for r in wanted
            if r.port in found
            and release >= (SEGMENTS_TUNNELLED_SINCE if _has_tunnels(r) else SEGMENTS_SINCE)
        )

    def _due(
        self, r: PortOffload, device: ethtool.Device, segmenting: Collection[Key]
    ) -> Features:
        """What is to change."""
        have = device.features()
        if _is_local(r):
            due = _differing(have, nothing_left)
            return due if due and self._daemon.release() < SEGMENTS_SINCE else {}
        return _differing(have, tcp_left if r.key in segmenting else nothing_left)


def _named(key: Key) -> PortOffload:
    _, ns, dev, port, packets = key
    return PortOffload(dev=dev, ns=ns, port=port, tunnels=packets == ANY_PACKETS)


def _has_tunnels(r: Segmented) -> bool:
    return isinstance(r, PortOffload) and r.tunnels


def _is_local(r: PortOffload) -> bool:
    return r.port == r.dev


def _differing(have: Features, wanted: Callable[[str], bool | None]) -> Features:
    return {
        name: want for name, on in have.items() if (want := wanted(name)) is not None and want != on
    }


def nothing_left(name: str) -> bool | None:
    """Whether this feature should be on; None: either way.  Without checksums no segments are."""
    return False if name.startswith(CHECKSUMS) else None


def tcp_left(name: str) -> bool | None:
    """As `nothing_left`, where checksums and segments of TCP are left to ovs-vswitchd."""
    if name in LEFT or name in SUMS:
        return True
    others = name.startswith((CHECKSUMS, "tx-gso-")) or name.endswith("-segmentation")
    return False if others else None

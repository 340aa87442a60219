"""Flows of Open vSwitch bridges: read and changed in OpenFlow, one bundle a bridge.

Flows that `flow_messages` has no words for, and very many, are changed by ovs-ofctl: a process,
which takes some 12 ms.  Ours are known by their cookies, see `netkit.model.openvswitch`.
Source: ovs-ofctl(8), "Flow Syntax", --bundle.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from netkit.errors import KernelError, Unreachable
from netkit.kernel import run
from netkit.kernel.adapter import Adapter
from netkit.kernel.ovs import flow_messages, openflow
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.model import Key, Resource
from netkit.model.openvswitch import COOKIE, OvsFlows
from netkit.reconcile.plan import Op

PATIENCE = 20  # seconds; a bundle of 10,000 flows takes less than one
MOST = 1000  # flows that are encoded here, at 0.02 ms each
BUNDLE = 1  # its number on a connection of its own
OURS, MINE = 0xFF << 56, 0xFFFFFFFFFF << 24  # masks of a cookie: netkit's; of one group


class Flows:
    def __init__(self, database: Ovsdb) -> None:
        self._db = database

    def adapter(self) -> Adapter:
        return Adapter(
            types=(OvsFlows,),
            kinds=frozenset({"ovsflows"}),
            observe=lambda _, keys: self.observe(keys),
            apply=lambda _, ops: self.apply(ops),
        )

    def observe(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        wanted = set(keys)
        out: dict[Key, Resource] = {}
        for bridge in sorted({k[1] for k in wanted}):
            out |= {f.key: f for f in self._groups(bridge, None) if f.key in wanted}
        return out

    def owned(self, bridges: Iterable[tuple[str, str | None]]) -> dict[Key, Resource]:
        """Find all our flows of these (bridge, its owner)."""
        return {f.key: f for name, owner in bridges for f in self._groups(name, owner)}

    def _groups(self, bridge: str, owner: str | None) -> Iterator[OvsFlows]:
        groups: dict[str, list[openflow.Flow]] = {}
        for flow in self._flows(bridge):
            groups.setdefault(f"{flow.cookie >> 24 & 0xFFFFFFFF:08x}", []).append(flow)
        names = self._db.view(lambda idl: _numbers(idl, bridge)) if groups else {}
        for mark, flows in sorted(groups.items()):
            cookies = {f.cookie for f in flows}
            numbers = frozenset().union(*(f.ports for f in flows))
            yield OvsFlows(
                bridge=bridge,
                name="",
                mark=mark,
                # flows of two states of one group: of neither
                digest=f"{flows[0].cookie & 0xFFFFFF:06x}" if len(cookies) == 1 else "",
                count=len(flows),
                ports=frozenset(names.get(n, f"port {n}, which is not there") for n in numbers),
                owner=owner,
            )

    def _flows(self, bridge: str) -> list[openflow.Flow]:
        """Read our flows; none without the bridge or ovs-vswitchd, with which flows end."""
        path = f"{self._db.folder}/{bridge}.mgmt"
        try:
            return openflow.flows(path, COOKIE, OURS)
        except (FileNotFoundError, ConnectionRefusedError):
            return []
        except OSError as e:
            why = f"cannot read the flows of {bridge}: {e}"
            raise Unreachable(why, frozenset({"ovsflows"})) from e

    def apply(self, ops: Sequence[Op]) -> None:
        """Apply one bundle a bridge; KernelError with `done` steps of earlier bridges in effect."""
        # A bundle is atomic, ovs-ofctl(8): no packet meets some of the new flows beside some of the
        # old ones.
        done = 0
        for bridge, members in groupby(ops, key=lambda op: op.subject.key[1]):
            steps = list(members)
            why, unsure = self._change(bridge, steps)
            # It fails where the bridge is not there any more, nor the flows to delete: fine.
            if why and not (all(op.after is None for op in steps) and not self._flows(bridge)):
                error = f"cannot change the flows of {bridge}: {why}"
                raise KernelError(error, done=done, unsure=unsure)
            done += len(steps)

    def _change(self, bridge: str, steps: Sequence[Op]) -> tuple[str, bool]:
        """Why it failed, "" if it did not; and whether it may have happened all the same."""
        try:
            messages = self._encoded(bridge, steps)
        except flow_messages.Unknown:
            ran = self._ofctl("--bundle", "add-flows", bridge, "-", text="\n".join(_lines(steps)))
            return (ran.stderr.strip() if ran.returncode else ""), False
        try:
            commit = flow_messages.control(flow_messages.COMMIT, BUNDLE, len(messages) + 1)
            openflow.send_bundle(f"{self._db.folder}/{bridge}.mgmt", messages, commit)
        except (KernelError, OSError) as e:
            return str(e), getattr(e, "unsure", False)
        return "", False

    def _encoded(self, bridge: str, steps: Sequence[Op]) -> list[bytes]:
        """The messages that fill a bundle.  Unknown: ovs-ofctl is to do it."""
        lines = [flow for op in steps if isinstance(op.after, OvsFlows) for flow in op.after.flows]
        if len(lines) > MOST:
            raise flow_messages.Unknown(f"{len(lines)} flows")
        numbers = {n: k for k, n in self._db.view(lambda idl: _numbers(idl, bridge)).items()}
        bodies: list[bytes] = []
        for r in (op.subject for op in steps):
            assert isinstance(r, OvsFlows)
            bodies.append(flow_messages.deletion(r.cookie, MINE | OURS))
        for made in (op.after for op in steps):
            if isinstance(made, OvsFlows):
                bodies += [flow_messages.addition(made.cookie, f, numbers) for f in made.flows]
        opened = flow_messages.control(flow_messages.OPEN, BUNDLE, 1)
        return [opened, *(flow_messages.added(BUNDLE, n, b) for n, b in enumerate(bodies, 2))]

    def _ofctl(self, *argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
        try:
            env = {**os.environ, "OVS_RUNDIR": self._db.folder}
            return run.run(
                ["ovs-ofctl", "-O", "OpenFlow14", *argv], text, timeout=PATIENCE, env=env
            )
        except FileNotFoundError as e:
            raise KernelError("ovs-ofctl is missing: install openvswitch-common") from e
        except subprocess.TimeoutExpired as e:
            raise KernelError(f"ovs-ofctl took more than {PATIENCE} s") from e


def _numbers(idl: Copy, bridge: str) -> dict[int, str]:
    """The ports of a bridge by their OpenFlow numbers; those that ovs-vswitchd could not make,
    whose number is -1, have none."""
    found = (row for row in rows(idl, "Bridge") if row.name == bridge)
    interfaces = (i for row in found for p in row.ports for i in p.interfaces)
    return {i.ofport[0]: i.name for i in interfaces if i.ofport and i.ofport[0] > 0}


def _lines(ops: Sequence[Op]) -> Iterator[str]:
    """OpenFlow lines that delete the flows of a group and add the desired ones, in one bundle."""
    for op in ops:
        r = op.subject
        assert isinstance(r, OvsFlows)
        yield f"delete cookie={r.cookie:#x}/{MINE | OURS:#x}"
    for op in ops:
        if isinstance(op.after, OvsFlows):
            yield from (f"add cookie={op.after.cookie:#x},{flow}" for flow in op.after.flows)

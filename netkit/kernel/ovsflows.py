"""Flows of Open vSwitch bridges: dumped and changed by ovs-ofctl, one atomic bundle a bridge.

Ours are known by their cookies, see `netkit.ovs`.  Source: ovs-ofctl(8), "Flow Syntax", --bundle.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from netkit.errors import KernelError
from netkit.kernel.ovsdb import Ovsdb
from netkit.model import Key, Resource
from netkit.ovs import COOKIE, OvsFlows, ports_in
from netkit.plan import Op

PATIENCE = 20  # seconds; a bundle of 10,000 flows takes less than one
OURS, MINE = 0xFF << 56, 0xFFFFFFFFFF << 24  # masks of a cookie: netkit's; of one group
_COOKIE = re.compile(r"cookie=0x([0-9a-f]+)")


class Flows:
    def __init__(self, database: Ovsdb) -> None:
        self._db = database

    def observe(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        wanted = set(keys)
        out: dict[Key, Resource] = {}
        for bridge in sorted({k[1] for k in wanted}):
            out |= {f.key: f for f in self._groups(bridge, None) if f.key in wanted}
        return out

    def owned(self, bridges: Iterable[tuple[str, str | None]]) -> dict[Key, Resource]:
        """All our flows of these (bridge, its owner)."""
        return {f.key: f for name, owner in bridges for f in self._groups(name, owner)}

    def _groups(self, bridge: str, owner: str | None) -> Iterator[OvsFlows]:
        flows: dict[int, list[str]] = {}
        for line in self._dump(bridge):
            if told := _COOKIE.search(line):
                flows.setdefault(int(told[1], 16), []).append(line)
        groups: dict[str, list[int]] = {}
        for cookie in sorted(flows):
            groups.setdefault(f"{cookie >> 24 & 0xFFFFFFFF:08x}", []).append(cookie)
        for mark, cookies in groups.items():
            lines = [line for c in cookies for line in flows[c]]
            yield OvsFlows(
                bridge=bridge,
                name="",
                mark=mark,
                # flows of two states of one group: of neither
                digest=f"{cookies[0] & 0xFFFFFF:06x}" if len(cookies) == 1 else "",
                count=len(lines),
                ports=frozenset().union(*map(ports_in, lines)),
                owner=owner,
            )

    def _dump(self, bridge: str) -> list[str]:
        """Nothing where the bridge or ovs-vswitchd is not: flows live and die with it."""
        if not os.path.exists(f"{self._db.folder}/{bridge}.mgmt"):
            return []
        which = f"cookie={COOKIE:#x}/{OURS:#x}"
        done = self._ofctl("--names", "--no-stats", "dump-flows", bridge, which)
        if done.returncode != 0:
            if "Connection refused" in done.stderr or "No such file" in done.stderr:
                return []
            raise KernelError(f"cannot read the flows of {bridge}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def apply(self, ops: Sequence[Op]) -> None:
        """One bundle a bridge; KernelError with `done` steps of earlier bridges in effect."""
        done = 0
        for bridge, members in groupby(ops, key=lambda op: op.subject.key[1]):
            steps = list(members)
            ran = self._ofctl("--bundle", "add-flows", bridge, "-", text="\n".join(_lines(steps)))
            if ran.returncode != 0 and not (
                all(op.after is None for op in steps) and not self._dump(bridge)
            ):
                raise KernelError(
                    f"cannot change the flows of {bridge}: {ran.stderr.strip()}", done=done
                )
            done += len(steps)

    def _ofctl(self, *argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["ovs-ofctl", "-O", "OpenFlow14", *argv],
                input=text,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                env={**os.environ, "OVS_RUNDIR": self._db.folder},
            )
        except FileNotFoundError as e:
            raise KernelError("ovs-ofctl is missing: install openvswitch-common") from e
        except subprocess.TimeoutExpired as e:
            raise KernelError(f"ovs-ofctl took more than {PATIENCE} s") from e


def _lines(ops: Sequence[Op]) -> Iterator[str]:
    """What is there of a group goes, what is wanted comes, in one commit."""
    for op in ops:
        r = op.subject
        assert isinstance(r, OvsFlows)
        yield f"delete cookie={r.cookie:#x}/{MINE | OURS:#x}"
    for op in ops:
        if isinstance(op.after, OvsFlows):
            yield from (f"add cookie={op.after.cookie:#x},{flow}" for flow in op.after.flows)

"""What numbers in flows of the integration bridge stand for: switches, ports and ACLs.

    metadata          tunnel_key of Datapath_Binding   -> logical switch
    reg14, reg15      tunnel_key of Port_Binding       -> logical port in, logical port out
    cookie            first 32 bits of a row's UUID    -> Logical_Flow, its stage-hint -> ACL

Read when asked for, by select: a copy of all ports and flows of a deployment is large.
Sources: ovn-architecture(7), ovn-sb(5), ovn-detrace(1).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from netkit.errors import KernelError
from netkit.kernel.ovn.databases import Databases, drops
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.ovs.selecting import Json, Rows, Selection, selection
from netkit.model.ovn import LogicalPath, rule_of

SOUTHBOUND = "OVN_Southbound"
SECONDS = 2.0  # for all questions
STAGES = ("ls_in_acl", "ls_out_acl", "ls_in_acl_eval", "ls_out_acl_eval")  # the last from 23.06 on
GUARDS_IN, GUARDS_OUT = "ls_in_apply_port_sec", "ls_out_apply_port_sec"
ONE_PORT = range(1, 0x8000)  # tunnel keys of ports; SB refuses a question about others
EVERY_PORT = range(0x8000, 0x10000)  # tunnel keys of multicast groups


class LogicalNames:
    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def look(
        self, datapath: int, source: int, target: int, flows: Sequence[tuple[int, int]]
    ) -> LogicalPath:
        """`flows`: (cookie, priority) of those that matched, in order.  KernelError."""
        remote = self._databases.southbound().remote
        with selection(remote, SOUTHBOUND, SECONDS) as south:
            switches, *found = south.select(
                ("Datapath_Binding", [["tunnel_key", "==", datapath]], ("_uuid", "external_ids")),
                *_flows_of(STAGES, {priority for _, priority in flows}),
                *_flows_of((GUARDS_IN, GUARDS_OUT), {p for _, p in flows[-1:]}),
            )
            if not switches:
                return LogicalPath()
            bound = _ports(south, switches[0]["_uuid"], (source, target))
        into = bound.get(target, {})
        every = [row for some in found for row in some]
        acl, rule, actions = self._decided(flows, every)
        stage = _guard(flows, every)
        sender = str(bound.get(source, {}).get("logical_port", ""))
        return LogicalPath(
            switch=_map(switches[0]["external_ids"]).get("name", ""),
            source=sender,
            target="all ports" if target in EVERY_PORT else str(into.get("logical_port", "")),
            unbound=bool(into) and into["type"] == "" and into["chassis"] == ["set", []],
            acl=acl,
            rule=rule,
            drops=bool(actions) and drops(actions),
            rejects="reject" in actions,
            guard={GUARDS_IN: sender, GUARDS_OUT: str(into.get("logical_port", ""))}.get(stage, ""),
            guards_in=stage == GUARDS_IN,
        )

    def _decided(self, flows: Sequence[tuple[int, int]], found: Rows) -> tuple[str, str, str]:
        """(ACL, id of the rule, actions of the logical flow)."""
        # Those without a hint are of no ACL: what is let pass where none says otherwise.
        by_cookie = {
            int(row["_uuid"][1][:8], 16): (hint, row["actions"])
            for row in found if (hint := _map(row["external_ids"]).get("stage-hint"))
        }  # fmt: skip
        hit = next((by_cookie[c] for c, _ in reversed(flows) if c in by_cookie), None)
        if hit is None:
            return "", "", ""
        hint, actions = hit
        north = self._databases.northbound()
        try:
            name = north.view(lambda idl: _acl(idl, hint), SECONDS) if north else ""
        except KernelError:  # the flow is still that of an ACL
            name = ""
        return name or f"with UUID {hint}...", rule_of(name), actions or "drop;"


def _flows_of(
    stages: Sequence[str], priorities: Collection[int]
) -> list[tuple[str, Json, Sequence[str]]]:
    return [
        (
            "Logical_Flow",
            [
                ["priority", "==", priority],
                ["external_ids", "includes", ["map", [["stage-name", stage]]]],
            ],
            ("_uuid", "external_ids", "actions"),
        )
        for priority in sorted(priorities)
        for stage in stages
    ]


def _guard(flows: Sequence[tuple[int, int]], found: Rows) -> str:
    """The stage of port security whose drop the last flow is; "" if it is none."""
    last = flows[-1][0] if flows else -1
    stages = {
        _map(row["external_ids"]).get("stage-name", "")
        for row in found
        if int(row["_uuid"][1][:8], 16) == last and "next" not in row["actions"]
    }
    return next((s for s in (GUARDS_IN, GUARDS_OUT) if s in stages), "")


def _ports(south: Selection, datapath: Json, keys: Sequence[int]) -> dict[int, dict[str, Json]]:
    columns = ("logical_port", "type", "chassis", "tunnel_key")
    found = south.select(
        *(
            ("Port_Binding", [["datapath", "==", datapath], ["tunnel_key", "==", key]], columns)
            for key in keys
            if key in ONE_PORT
        )
    )
    return {row["tunnel_key"]: row for some in found for row in some}


def _map(value: Json) -> dict[str, str]:
    """RFC 7047, 5.1: ["map", [[key, value], ...]]."""
    return {str(k): str(v) for k, v in value[1]}


def _acl(idl: Copy, hint: str) -> str:
    for row in rows(idl, "ACL"):
        if row.uuid.hex[:8] == hint:
            return re.sub(r"\s+", " ", (row.name or [row.match])[0])[:200]
    return ""

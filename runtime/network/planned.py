"""Render planned steps for netkit's API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netkit.network.planned import PlannedNetwork, PlannedRepair
from netkit.reconcile.plan import Op, shown
from netkit.spec import NetworkRecord

CREATE, CHANGE, DELETE = "create", "change", "delete"


def steps(plan: Iterable[Op]) -> list[dict[str, str]]:
    """In order: {"Action": create, change or delete; "Kind", "Resource", "Changes", "Step"}.

    "Changes" are the fields that differ: "mtu 1500, not 1400".
    """
    return [_step(op) for op in plan]


def _step(op: Op) -> dict[str, str]:
    action = CREATE if op.before is None else DELETE if op.after is None else CHANGE
    return {
        "Action": action,
        "Kind": str(op.subject.key[0]),
        "Resource": str(op.subject),
        "Changes": op.differs,
        "Step": shown(op),
    }


def creation(found: PlannedNetwork) -> dict[str, Any]:
    spec = found.record.spec
    return {
        "Network": spec.name,
        "Driver": spec.driver,
        "Subnets": [
            {"Subnet": s.subnet, "IPRange": s.ip_range, "Gateway": s.gateway} for s in spec.subnets
        ],
        "Warning": "\n".join(found.warnings),
        "Steps": steps(found.steps),
    }


def removal(record: NetworkRecord, plan: Iterable[Op]) -> dict[str, Any]:
    return {"Network": record.spec.name, "Driver": record.spec.driver, "Steps": steps(plan)}


def repair(found: PlannedRepair) -> dict[str, Any]:
    return {"Steps": steps(found.steps), "Busy": found.busy}

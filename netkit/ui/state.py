"""What the page shows of one engine, and how lines of its streams change that.  Pure.

Networks, Endpoints, Repaired   as of `GET /netkit/watch` (docs/watch.md)
Containers    by id: {"Name", "Image", "State", "Status", "Health", "Networks": [ids]}
Drift         [{"Step", "Network", "Container", "Note"}], what is not as it should be now
Problem       why the engine cannot be asked; "" if it can
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
BY_ID = ("Networks", "Endpoints", "Repaired")
_HEALTH = {"(healthy)": "healthy", "(unhealthy)": "unhealthy", "(health: starting)": "starting"}


class EngineState:
    """Methods return what changed in the same format: null for what is removed; {} for nothing."""

    def __init__(self) -> None:
        self._now: Json = {part: {} for part in (*BY_ID, "Containers")}
        self._now |= {"Drift": [], "Problem": "starting"}

    @property
    def complete(self) -> Json:
        return dict(self._now)

    def line(self, found: Mapping[str, Any]) -> Json:
        """A state or a change of `GET /netkit/watch`."""
        changed: Json = {}
        for part in BY_ID:
            new = found.get(part, {})
            if found["Type"] == "state":  # what is not in it is gone
                new = dict.fromkeys(self._now[part]) | new
            changed |= self._merged(part, new)
        return changed

    def containers(self, listed: Iterable[Mapping[str, Any]]) -> Json:
        """All of `GET /containers/json?all=1`."""
        found = {each["Id"]: container(each) for each in listed}
        return self._merged("Containers", dict.fromkeys(self._now["Containers"]) | found)

    def set(self, part: str, value: Any) -> Json:
        """Drift or Problem."""
        if self._now[part] == value:
            return {}
        self._now = self._now | {part: value}
        return {part: value}

    def _merged(self, part: str, new: Mapping[str, Any]) -> Json:
        before = self._now[part]
        differs = {id: each for id, each in new.items() if before.get(id) != each}
        if not differs:
            return {}
        after = {id: each for id, each in {**before, **differs}.items() if each is not None}
        self._now = self._now | {part: after}
        return {part: differs}


def container(listed: Mapping[str, Any]) -> Json:
    """Of one of `GET /containers/json`."""
    status = str(listed.get("Status", ""))
    networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
    return {
        "Name": (listed.get("Names") or [listed["Id"][:12]])[0].lstrip("/"),
        "Image": listed.get("Image", ""),
        "State": listed.get("State", ""),
        "Status": status if listed.get("State") != "running" else "",  # else it has the time in it
        "Health": next((word for mark, word in _HEALTH.items() if mark in status), ""),
        "Networks": sorted(n.get("NetworkID") or name for name, n in networks.items()),
    }


def drift(networks: Mapping[str, Any], firewall: Mapping[str, Any]) -> list[Json]:
    """Of `GET /netkit/networks/drift` and `GET /netkit/firewall/drift`."""
    found = [
        {part: each.get(part, "") for part in ("Step", "Network", "Container", "Note")}
        for each in networks.get("Drift") or ()
    ]
    texts = [*(networks.get("Findings") or ()), *(firewall.get("Steps") or ())]
    texts += firewall.get("Findings") or ()
    return found + [
        {"Step": text, "Network": "", "Container": "", "Note": ""} for text in dict.fromkeys(texts)
    ]

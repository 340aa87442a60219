"""A thread that compares what is stored for dockerd with what dockerd has, by its API.

    a plugin call brought something new, or a container has no name yet, or half a minute went by
        --> ask dockerd --> names and aliases of containers, names of networks
                        --> remove what dockerd has not had for GRACE seconds

dockerd calls a plugin for what it does, and never lists what it has: what happened while netkitd
was down is found here.  It must not be asked while it waits for an answer of a plugin, since it
holds locks then: so nothing waits for this thread.  While dockerd does not answer, all stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from netkit import threads
from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine
from netkit.client.failure import Failure, Refused
from netkit.errors import NetkitError, NotFound
from netkit.frontends.libnetwork.frontend import Frontend
from netkit.frontends.libnetwork.messages import NetworkRequest
from netkit.frontends.libnetwork.plugin import IPAM
from netkit.frontends.libnetwork.tables import LEASE, DockerEndpoint, DockerNetwork

HEARTBEAT = 30.0  # seconds between looks without a hint
SOON = 0.5  # seconds between looks while something is about to change: a name, or a removal
UNNAMED = 20.0  # seconds that a name is waited for so
GRACE = 15.0  # seconds after which what dockerd does not have is no call that is under way
QUIET = 0.1  # seconds after a hint: dockerd's call is answered first

log = logging.getLogger("netkit.docker")
Json = dict[str, Any]


@dataclass
class Missing:
    """Since when dockerd has not had something, by what it is."""

    now: Callable[[], float]
    since: dict[Hashable, float] = field(default_factory=dict)

    def overdue(self, missing: Iterable[Hashable]) -> set[Hashable]:
        """Those that have been missing for GRACE seconds, at every look."""
        now = self.now()
        self.since = {m: self.since.get(m, now) for m in missing}
        return {m for m, since in self.since.items() if now - since >= GRACE}


class Following:
    """`host` is dockerd's API, as `docker -H` has it.  `wake` is set when it should look soon."""

    def __init__(
        self,
        frontend: Frontend,
        host: str,
        wake: threading.Event,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._front = frontend
        self._host = host
        self._now = now
        self._engine: Engine | None = None
        self._missing = Missing(now)
        self._unnamed: dict[str, float] = {}  # since when, by endpoint
        self._wake = wake
        self._closed = False
        self._trouble = ""  # the last failure, so that it is logged once
        self._thread = threads.looping(
            "netkit-docker-names", self._run, over=lambda: self._closed
        )

    def start(self) -> None:
        self._wake.set()
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(2)  # dockerd may take longer for an answer

    def _run(self) -> None:
        while not self._closed:
            soon = self._missing.since or any(
                self._now() - since < UNNAMED for since in self._unnamed.values()
            )
            if self._wake.wait(SOON if soon else HEARTBEAT):
                self._wake.clear()
                time.sleep(QUIET)
            if not self._closed:
                self._guarded()

    def _guarded(self) -> None:
        """Log a failure once; the next look tries again."""
        try:
            self.look()
        except (Failure, OSError, NetkitError) as error:
            self._missing.since.clear()
            self._unnamed.clear()
            if str(error) != self._trouble:
                log.warning("dockerd's names: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = ""

    def look(self) -> None:
        """Compare once.  Failure or OSError where dockerd does not answer."""
        tables = self._front.tables
        rows, endpoints = tables.networks(), tables.endpoints()
        pools, leases = tables.pools(), tables.leases()
        if not (rows or endpoints or pools or leases):
            self._missing.since.clear()
            return
        known: list[Json] = self._get("/networks") or []
        there = {str(n.get("Id")): n for n in known}
        subnets = {
            str(c.get("Subnet"))
            for n in known if (n.get("IPAM") or {}).get("Driver") == IPAM
            for c in (n.get("IPAM") or {}).get("Config") or ()
        }  # fmt: skip
        members: dict[str, tuple[str, Json]] = {}
        for row in rows:
            if row.id in there:
                members |= self._members(row)
        self._name(rows, there, endpoints, members)
        mine = {row.network for row in rows if row.id in there}
        held = {e.sandbox for e in endpoints}
        missing: dict[Hashable, Callable[[], object]] = {}
        for row in rows:
            if row.id not in there:
                act = partial(self._front.plugin.networks.delete, NetworkRequest(row.id))
                missing["network", row.id] = act
        for e in endpoints:
            if e.id not in members:
                missing["endpoint", e.id] = partial(self._drop_endpoint, e)
        for lease in leases:
            bound = next((p.network for p in pools if p.id == lease.pool), "")
            if lease.kind == LEASE and bound and lease.holder not in held:
                missing["address", lease.holder] = partial(self._front.plugin.pools.drop, lease)
        for pool in pools:
            if pool.network not in mine and (pool.network or pool.cidr not in subnets):
                missing["pool", pool.id] = partial(self._front.plugin.pools.drop_pool, pool.id)
        self._remove(missing)

    def _remove(self, missing: dict[Hashable, Callable[[], object]]) -> None:
        for what in sorted(self._missing.overdue(missing), key=str):
            kind, id = what if isinstance(what, tuple) else ("", what)
            log.info("%s %s is removed: dockerd does not have it any more", kind, str(id)[:12])
            threads.attempt(f"removing {kind} {str(id)[:12]}", missing[what])

    def _drop_endpoint(self, endpoint: DockerEndpoint) -> None:
        self._front.plugin.endpoints.remove(endpoint.id)
        for lease in self._front.tables.leases():
            if lease.holder == endpoint.sandbox:
                self._front.plugin.pools.drop(lease)

    # names

    def _members(self, row: DockerNetwork) -> Iterator[tuple[str, tuple[str, Json]]]:
        """Containers on one of dockerd's networks, with their ids, by endpoint."""
        try:
            found: Json = self._get(f"/networks/{row.id}")
        except Refused as error:
            if error.status != 404:
                raise
            return
        for container, about in (found.get("Containers") or {}).items():
            yield str(about.get("EndpointID")), (str(container), {**about, "On": found["Name"]})

    def _name(
        self,
        rows: list[DockerNetwork],
        there: dict[str, Json],
        endpoints: list[DockerEndpoint],
        members: dict[str, tuple[str, Json]],
    ) -> None:
        for row in rows:
            name = str(there.get(row.id, {}).get("Name", row.name))
            if name != row.name:
                self._front.name_network(row, name)
        unnamed = []
        for e in endpoints:
            container, about = members.get(e.id, ("", {}))
            if not container or container.startswith("ep-"):  # it has not joined one yet
                unnamed.append(e.id)
            else:
                self._name_endpoint(e, container, about)
        now = self._now()
        self._unnamed = {id: self._unnamed.get(id, now) for id in unnamed}

    def _name_endpoint(self, e: DockerEndpoint, container: str, about: Json) -> None:
        name = str(about.get("Name", ""))
        if self._front.is_named(e, container, name):
            return
        try:
            found: Json = self._get(f"/containers/{container}/json")
        except Refused as error:
            if error.status != 404:
                raise
            return
        networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
        settings = networks.get(about["On"]) or {}
        config = found.get("Config") or {}
        names = [
            name,
            *(settings.get("DNSNames") or ()),
            *(settings.get("Aliases") or ()),
            container[:12],
            str(config.get("Hostname", "")),
        ]
        try:
            self._front.name(e, container, name, tuple(dict.fromkeys(filter(None, names))))
        except NotFound:
            log.debug("endpoint %s was removed before its name was known", e.id[:12])

    def _get(self, path: str) -> Any:
        if self._engine is None:
            self._engine = Engine(parse_host(self._host, None))
        return self._engine.get(path)

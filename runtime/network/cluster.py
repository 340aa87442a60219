"""Implement the API's cluster calls: init, join, leave and status of this host."""

from __future__ import annotations

import socket
from typing import Any

from netkit.cluster.client import Client
from netkit.cluster.following import Following
from netkit.cluster.remotes import own_address
from netkit.cluster.servers import LocalServer
from netkit.cluster.state import Member, Shared
from netkit.cluster.tls import Certificates
from netkit.errors import Conflict, Forbidden, InvalidSpec, KernelError, NotFound
from netkit.network.global_networks import GlobalNetworks


class ClusterService:
    """Implements ports.Cluster.  `elsewhere`: external servers, given by --cluster."""

    def __init__(
        self,
        engine: str,
        client: Client,
        server: LocalServer,
        global_networks: GlobalNetworks,
        *,
        elsewhere: str = "",
        advertise: str = "",
        certificates: Certificates | None = None,
    ) -> None:
        self._engine = engine
        self._client = client
        self._server = server
        self._global_networks = global_networks
        self._elsewhere = elsewhere
        self._advertise = advertise
        self._certificates = certificates
        self._leaving = False  # `leave --force` is in progress: do not reconnect
        self.following = Following(client, global_networks, self._me, self._ensure_server)

    def start(self) -> None:
        if self._elsewhere and self._server.settings is not None:
            raise Conflict(
                "--cluster names servers, and this host has one of its own: leave out --cluster, "
                "or netkit cluster leave first"
            )
        self._server.found()
        self._client.use(self._elsewhere or self._server.remotes)
        self.following.start()

    def close(self) -> None:
        """Stop following; the server process runs on, for other hosts and running containers."""
        self.following.close()

    def init(self, address: str) -> dict[str, Any]:
        with self.following.turns:
            self._must_be_able_to_begin()
            self._server.create(own_address(address))
            self._follow()
        return self.status()

    def join(self, other: str, address: str) -> dict[str, Any]:
        with self.following.turns:
            self._must_be_able_to_begin()
            there = own_address(other)
            self._server.join(own_address(address, f"tcp:{there}"), there)
            self._follow()
        return self.status()

    def _must_be_able_to_begin(self) -> None:
        if self._client.remotes:
            raise Conflict(f"this host is in a cluster already, of {self._client.remotes}")
        if self._certificates is not None:  # ovsdb-server does not report why a peer is refused
            self._certificates.check()

    def _follow(self) -> None:
        self._client.use(self._server.remotes)
        self.following.flush()
        self.following.hint.set()

    def leave(self, host: str = "", *, force: bool = False) -> None:
        if force:
            if host:
                raise InvalidSpec("force is about this host: leave out the name of the other")
            self._break_away()
            return
        with self.following.turns:
            if host:
                self._remove(host)
            else:
                self._leave()

    def _break_away(self) -> None:
        self._must_be_able_to()
        self._leaving = True
        try:
            self._client.use("")  # aborts a pending request, which holds `turns`
            with self.following.turns:
                self._client.use("")  # a turn may have reconnected in between
                self._server.remove()
                self._end()
        finally:
            self._leaving = False
            self.following.hint.set()

    def _must_be_able_to(self) -> None:
        if self._elsewhere:
            raise Conflict("netkitd was started with --cluster: start it without")
        if not self._client.remotes:
            raise Conflict("this host is in no cluster")
        if users := sorted({e.owner_name for e in self._global_networks.endpoints()}):
            raise Forbidden(
                "containers are on networks of scope global: disconnect or remove them first: "
                + ", ".join(users)
            )

    def _leave(self) -> None:
        self._must_be_able_to()
        if not self._server.wait_connected():
            raise KernelError(
                "most servers of the cluster do not answer, which leaving it needs: try again when "
                "they are back, or netkit cluster leave --force here, and on another host netkit "
                f"cluster leave {self._me().address}"
            )
        others = [m for m in self._client.look().members.values() if m.id != self._engine]
        if self._server.status().servers == (self._me().address,) and others:
            raise Forbidden(
                "this is the only server of the cluster: these hosts have to leave first: "
                + ", ".join(map(str, others))
            )
        self._client.forget(self._engine)  # before the connection is closed
        self._client.use("")
        try:
            self._server.leave()
        except BaseException:
            self._client.use(self._server.remotes)  # still a member
            raise
        self._end()

    def _end(self) -> None:
        """Remove all state of the cluster from this host."""
        for id in self._global_networks.present():
            self._global_networks.remove(id)
        self.following.shared = None
        self.following.problems.clear()

    def _remove(self, ref: str) -> None:
        """Remove another host that will not return."""
        members = self._client.look().members.values()
        found = [m for m in members if ref in {m.id, m.address}] or [
            m for m in members if ref == m.name
        ]
        if not found:
            raise NotFound(f"no host {ref} in the cluster")
        if len(found) > 1:
            raise InvalidSpec(f"host {ref} is ambiguous: give its engine id or address")
        if found[0].id == self._engine:
            raise InvalidSpec("that is this host: netkit cluster leave, without a name")
        self._client.forget(found[0].id)
        if self._server.settings is not None:
            self._server.kick(found[0].address)

    def status(self) -> dict[str, Any]:
        """Status as last received from the cluster, and of the local server; never blocks."""
        remotes, shared = self._client.remotes, self.following.shared or Shared()
        problems = {**self.following.problems}  # copied: another thread changes it
        status: dict[str, Any] = {
            "Remotes": remotes.split(",") if remotes else [],
            "TLS": self._certificates is not None,
            "Servers": [],
            "Leader": "",
            "Role": "",
            "Answers": self.following.shared is not None and "the cluster" not in problems,
            "Problems": [f"{k}: {v}" for k, v in sorted(problems.items())],
            "Networks": sorted(n.spec.name for n in shared.networks.values()),
            "Hosts": [
                {
                    "Id": m.id,
                    "Name": m.name,
                    "Address": m.address,
                    "Endpoints": sum(e.host == m.id for e in shared.endpoints),
                    "Self": m.id == self._engine,
                }
                for m in sorted(shared.members.values(), key=lambda m: m.address)
            ],
        }
        if self._server.settings is not None:
            try:
                server = self._server.status()
            except KernelError as error:
                status["Problems"].append(f"the server of this host: {error}")
            else:
                status |= {
                    "Servers": list(server.servers), "Leader": server.leader, "Role": server.role,
                }  # fmt: skip
        return status

    def _me(self) -> Member:
        settings = self._server.settings
        address = settings.address if settings is not None else ""
        return Member(
            id=self._engine,
            name=socket.gethostname(),
            address=own_address(self._advertise or address, self._client.remotes),
        )

    def _ensure_server(self) -> None:
        """Start the local server if it died, and connect to all current servers."""
        if self._server.settings is None or self._leaving:
            return
        self._server.ensure()
        self._client.use(self._server.remotes)

"""A server of the cluster on this host: the distribution's ovsdb-server with our schema.

It outlives netkitd; the next one finds it by its pid file.  Two ports, of one address: clients
come to 6640, the other servers (RAFT) to 6644.  With certificates both are TLS, and ask for one;
without, any host that reaches the ports has access.

Sources: ovsdb(7), "Clustered Database Service Model"; ovsdb-server(1); ovsdb-tool(1).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import msgspec

from netkit.cluster import programs
from netkit.cluster.greeting import ELECTION, greet
from netkit.cluster.programs import tool
from netkit.cluster.schema import NAME, SCHEMA
from netkit.cluster.settings import Settings, keep, load
from netkit.cluster.standing import ServerStatus, members, parsed
from netkit.cluster.tls import FLAGS, Certificates, scheme
from netkit.errors import Conflict, KernelError

CLIENTS, PEERS = 6640, 6644  # ports
SERVER = "ovsdb-server"
JOIN = 30.0  # seconds until a new server must have the cluster's contents
LEAVE = 10.0  # seconds
POLL = 0.1  # seconds
PAUSE = 1.0  # seconds between attempts to start it


class LocalServer:
    """`folder` outlives a reboot: the database; `run` does not: sockets and the pid file.

    A subclass is a server of another database.
    """

    name: ClassVar[str] = NAME
    clients: ClassVar[int] = CLIENTS
    peers: ClassVar[int] = PEERS
    subject: ClassVar[str] = "a cluster"
    begin: ClassVar[str] = "netkit cluster init"  # commands
    end: ClassVar[str] = "netkit cluster leave"

    def __init__(self, folder: Path, run: Path, certificates: Certificates | None = None) -> None:
        self._folder, self._run = folder, run
        self._certificates = certificates
        self._kind = scheme(certificates)
        self._database = folder / f"{self.name.lower()}.db"
        self._settings = folder / "cluster.json"
        self._control = run / "control"
        self._tried = 0.0

    @property
    def settings(self) -> Settings | None:
        """The stored settings; None where this host has no server."""
        return load(self._settings)

    @property
    def remotes(self) -> str:
        """Remotes for clients of this host: "tcp:H1:6640,tcp:H2:6640", or ssl:."""
        servers = found.servers if (found := self.settings) else ()
        return ",".join(f"{self._kind}:{a}:{self.clients}" for a in servers)

    # coming and going

    def create(self, address: str) -> None:
        """Create the first server of a new cluster."""
        own = f"{self._kind}:{address}:{self.peers}"
        self._begin("create-cluster", str(self._schema()), own)
        keep(self._settings, Settings(address=address, servers=(address,), tls=self._tls))
        self.start()

    def join(self, address: str, other: str) -> None:
        """Add this host's server to the cluster of `other`.  KernelError if it is refused."""
        greet(other, self.clients, self._certificates, name=self.name, begin=self.begin)
        own, remote = (f"{self._kind}:{a}:{self.peers}" for a in (address, other))
        self._begin("join-cluster", self.name, own, remote)
        try:
            keep(self._settings, Settings(address=address, servers=(address, other), tls=self._tls))
            self.start()
            self.wait_joined(other)
        except BaseException:
            self.remove()
            raise
        self.refresh()

    def wait_joined(self, other: str) -> None:
        """Until it has the cluster's contents.  KernelError after 30 s."""
        deadline = time.monotonic() + JOIN
        while time.monotonic() < deadline:
            with suppress(KernelError):
                if "Status: cluster member" in self._ask("cluster/status", self.name):
                    return
            time.sleep(POLL)
        raise KernelError(
            f"the server at {other} did not let this one join within {JOIN:g} s: do ports "
            f"{self.clients} and {self.peers} let it through, here and there?"
        )

    def leave(self) -> None:
        """Leave the cluster, and delete its database here."""
        status = self.status() if self.alive else None
        if status is not None and len(status.servers) > 1:
            with suppress(KernelError):  # it may end while it answers
                self._ask("cluster/leave", self.name)
            self._wait_left()
        self.remove()

    def _wait_left(self) -> None:
        deadline = time.monotonic() + LEAVE
        while time.monotonic() < deadline:
            try:
                if "Status: left cluster" in self._ask("cluster/status", self.name):
                    return
            except KernelError:
                return  # it does not serve that database any more
            time.sleep(POLL)
        raise KernelError(
            f"the other servers did not let this one go within {LEAVE:g} s: most of them must run"
        )

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self._run, ignore_errors=True)

    def kick(self, address: str) -> None:
        """Remove another, lost server from the cluster.  No error if it is none."""
        for short, at in members(self._ask("cluster/status", self.name)).items():
            if at == address:
                self._ask("cluster/kick", self.name, short)

    @property
    def lost(self) -> bool:
        """Whether it should have a database, and has none."""
        return self.settings is not None and not self._database.exists()

    def rejoin(self, others: Iterable[str]) -> None:
        """One that has lost its database gets it from another server.

        The cluster counts it as a new one; see `kick_former`.  KernelError if none answers.
        """
        settings = self.settings
        assert settings is not None
        other = self._answering([a for a in others if a != settings.address])
        self.stop()
        own, remote = (f"{self._kind}:{a}:{self.peers}" for a in (settings.address, other))
        tool(self._run, "ovsdb-tool", "join-cluster", str(self._database), self.name, own, remote)
        self.start()
        self.wait_joined(other)

    def _answering(self, others: list[str]) -> str:
        error = KernelError(
            f"{self._database} is missing, and there is no other server to get it from: "
            f"{self.end} --force, then {self.begin}, begins with an empty one"
        )
        for other in others:
            try:
                greet(other, self.clients, self._certificates, name=self.name, begin=self.begin)
            except KernelError as bad:
                error = bad
            else:
                return other
        raise error

    def kick_former(self) -> None:
        """Remove servers with our address that are not this one: it has lost its database."""
        own = found.address if (found := self.settings) else ""
        text = self._ask("cluster/status", self.name)
        for short, at in members(text).items():
            if at == own and f"Server ID: {short} " not in text:
                self._ask("cluster/kick", self.name, short)

    # running

    def ensure(self) -> None:
        """Start the server if it should run and does not; called often."""
        if self.settings is None:
            return
        if not self.alive and time.monotonic() - self._tried > PAUSE:
            self._tried = time.monotonic()
            self.start()
        self.refresh()

    def refresh(self) -> None:
        """Note which servers there are, for a start when this one is the only one to ask."""
        settings = self.settings
        if settings is None:
            return
        with suppress(KernelError):
            servers = self.status().servers
            others = (s for s in servers if s != settings.address)
            fresh = msgspec.structs.replace(settings, servers=(settings.address, *others))
            if settings.address in servers and fresh != settings:
                keep(self._settings, fresh)

    @property
    def alive(self) -> bool:
        return bool(self._pid())

    def start(self) -> None:
        """Start it and wait until it listens.  KernelError with the reason where it does not."""
        settings = self.settings
        if self.alive or settings is None:
            return
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._control.unlink(missing_ok=True)
        tool(self._run, *self._command(settings))

    def _command(self, settings: Settings) -> list[str]:
        return [
            SERVER, str(self._database),
            f"--remote=p{self._kind}:{self.clients}:{settings.address}",
            *(self._certificates.flags() if self._certificates else ()),
            f"--unixctl={self._control}", f"--pidfile={self._pidfile}", "--detach",
            "-vconsole:off", f"--log-file={self._folder}/ovsdb-server.log",
        ]  # fmt: skip

    def found(self) -> None:
        """By a netkitd that starts: one that runs with other flags by now is ended, to start anew.

        Conflict if it was made with TLS and is to run without, or the other way round.
        """
        settings = self.settings
        if settings is None:
            return
        if settings.tls != self._tls:
            was, now = ("with", "without") if settings.tls else ("without", "with")
            raise Conflict(
                f"the server of {self.subject} on this host was made {was} TLS, and netkitd was "
                f"started {now} {FLAGS[0]}: start it as before, {self.end}, then change"
            )
        if (pid := self._pid()) and programs.words_of(pid)[1:] != self._command(settings)[1:]:
            self.stop()

    @property
    def _tls(self) -> bool:
        return self._certificates is not None

    def stop(self) -> None:
        programs.stop(self._pidfile, SERVER, str(self._database))

    def status(self) -> ServerStatus:
        """Return the server's status.  KernelError if it does not answer."""
        return parsed(self._ask("cluster/status", self.name))

    def wait_connected(self) -> bool:
        """Whether it has contact with most of the servers, as soon as it has; False after 5 s."""
        deadline = time.monotonic() + ELECTION
        while True:
            with suppress(KernelError):  # it is starting
                if self.status().connected:
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)

    def _ask(self, *words: str) -> str:
        return tool(self._run, "ovs-appctl", "--timeout=2", "-t", str(self._control), *words)

    @property
    def _pidfile(self) -> Path:
        return self._run / "ovsdb-server.pid"

    def _pid(self) -> int:
        """The pid; 0 if it does not run."""
        return programs.daemon(self._pidfile, SERVER, str(self._database))

    def _begin(self, *words: str) -> None:
        if self.settings is not None:
            raise Conflict(f"this host has a server of {self.subject} already: {self.end}")
        self.remove()  # what a failed attempt left
        self._folder.mkdir(mode=0o700, parents=True)
        verb, *rest = words
        if verb == "create-cluster":
            self._schema().write_text(self.schema_text())
        tool(self._run, "ovsdb-tool", verb, str(self._database), *rest)

    def _schema(self) -> Path:
        return self._folder / f"{self.name.lower()}.ovsschema"

    def schema_text(self) -> str:
        """The schema of a new database, in JSON.  KernelError where it is missing."""
        return json.dumps(SCHEMA)

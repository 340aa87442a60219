"""The resolver's process, asked from inside containers' namespaces with dnspython."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.reversename
import dns.rrset
import pytest

from netkit.dns.client import Resolver
from netkit.dns.zones import ResolverView, Zone
from netkit.errors import Conflict, KernelError
from netkit.kernel import netns
from tests.netns.conftest import Lab

pytestmark = pytest.mark.root

GOOD, FAILING, SILENT, ABSENT, LIAR = (f"192.0.2.{n}" for n in range(1, 6))
TRUE, FALSE = "203.0.113.1", "203.0.113.66"
WEB = Zone(
    id="n1",
    name="front",
    names={"web": ("10.1.0.2",), "site": ("10.1.0.2", "10.1.0.3")},
    reverse={"10.1.0.2": "web.front"},
)


def view(*zones: Zone, upstreams: tuple[str, ...] = (GOOD,), forward: bool = True) -> ResolverView:
    return ResolverView(zones=zones or (WEB,), upstreams=upstreams, forward=forward)


@dataclass
class Upstreams:
    """Name servers at several addresses of the daemon's namespace, each with its own behaviour."""

    ns: str
    received: list[tuple[str, str, str]] = field(default_factory=list)  # server, protocol, name
    _closing: bool = False

    def run(self, ready: threading.Event) -> None:
        selector = selectors.DefaultSelector()
        for server in (GOOD, FAILING, SILENT, LIAR):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = netns.open_socket(self.ns, socket.AF_INET, kind)
                sock.bind((server, 53))
                if kind == socket.SOCK_STREAM:
                    sock.listen(16)
                selector.register(sock, selectors.EVENT_READ, server)
        ready.set()
        while not self._closing:
            for key, _ in selector.select(0.05):
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj.type == socket.SOCK_DGRAM:
                    query, client = key.fileobj.recvfrom(4096)
                    for reply in self.replies(key.data, "udp", query):
                        key.fileobj.sendto(reply, client)
                else:
                    self.stream(key.data, key.fileobj)
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        selector.close()

    def stream(self, server: str, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            (size,) = struct.unpack("!H", connection.recv(2))
            for reply in self.replies(server, "tcp", connection.recv(size)):
                connection.sendall(struct.pack("!H", len(reply)) + reply)

    def replies(self, server: str, protocol: str, wire: bytes) -> list[bytes]:
        query = dns.message.from_wire(wire)
        name = query.question[0].name
        self.received.append((server, protocol, str(name).rstrip(".")))
        reply = dns.message.make_response(query)
        if server == SILENT:
            return []
        if server == FAILING:
            reply.set_rcode(dns.rcode.SERVFAIL)
            return [reply.to_wire()]
        if "none" in str(name):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif protocol == "udp" and "long" in str(name):
            reply.flags |= dns.flags.TC
        else:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", TRUE))
        if server == LIAR:
            return [*self.lies(query), reply.to_wire()]
        return [reply.to_wire()]

    def lies(self, query: dns.message.Message) -> list[bytes]:
        other = dns.message.make_query("other.test", "A", id=query.id)
        lies = [dns.message.make_response(q) for q in (query, other)]
        for lie in lies:
            lie.answer.append(dns.rrset.from_text(lie.question[0].name, 60, "IN", "A", FALSE))
        lies[0].id ^= 1
        return [*(lie.to_wire() for lie in lies), b"short"]

    def close(self) -> None:
        self._closing = True


class Daemon:
    """A Resolver as a netkitd in `home` has it: all its threads are in that namespace."""

    def __init__(self, home: str, folder: Path) -> None:
        self._home = home
        with netns.inside(home):
            self.resolver = Resolver(folder, netns.open_socket)
        self.known = self.resolver.known
        self.remove = self.resolver.remove
        self.close = self.resolver.close

    def set(self, sandbox_id: str, ns_path: str, view: ResolverView) -> None:
        with netns.inside(self._home):
            self.resolver.set(sandbox_id, ns_path, view)

    def update(self, sandbox_id: str, view: ResolverView) -> None:
        with netns.inside(self._home):
            self.resolver.update(sandbox_id, view)


@dataclass
class Stage:
    lab: Lab
    folder: Path
    upstreams: Upstreams
    resolvers: list[Daemon] = field(default_factory=list)

    def resolver(self) -> Daemon:
        """A netkitd's, as after each start of it."""
        made = Daemon(self.lab.home, self.folder)
        self.resolvers.append(made)
        return made

    def container(self, name: str) -> str:
        path = self.lab.ns(name)
        netns.create(path)
        return path

    def pid(self) -> int:
        """Return the pid of the resolver's process, from its log."""
        lines = (self.folder / "log").read_text().splitlines()
        return int(next(x for x in reversed(lines) if " pid " in x).split(" pid ")[1].split()[0])


@pytest.fixture
def stage(lab: Lab) -> Iterator[Stage]:
    for server in (GOOD, FAILING, SILENT, ABSENT, LIAR):
        lab.run("ip", "addr", "add", f"{server}/32", "dev", "lo")
    upstreams = Upstreams(lab.home)
    ready = threading.Event()
    thread = threading.Thread(target=upstreams.run, args=(ready,))
    thread.start()
    stage = Stage(lab, Path(f"/run/{lab.name}-dns"), upstreams)
    try:
        assert ready.wait(30)
        yield stage
    finally:
        upstreams.close()
        thread.join()
        for resolver in stage.resolvers:
            resolver.close(stop=False)
        stage.resolver().close(stop=True)  # also what a failed test left to itself
        shutil.rmtree(stage.folder, ignore_errors=True)


def ask(
    ns: str, name: str, kind: str = "A", *, tcp: bool = False, timeout: float = 30
) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    with netns.inside(ns):
        way = dns.query.tcp if tcp else dns.query.udp
        return way(query, "127.0.0.11", timeout=timeout)


def addresses(reply: dns.message.Message) -> list[str]:
    return sorted(str(record) for answer in reply.answer for record in answer)


def soon(true: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def answers(ns: str, name: str) -> bool:
    try:
        return bool(ask(ns, name, timeout=0.3).answer)
    except (dns.exception.Timeout, OSError):
        return False


@pytest.mark.parametrize("tcp", [False, True])
def test_names_aliases_and_reverse_look_ups(stage: Stage, tcp: bool) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    assert addresses(ask(c, "web", tcp=tcp)) == ["10.1.0.2"]
    assert addresses(ask(c, "WEB.front", tcp=tcp)) == ["10.1.0.2"]
    assert addresses(ask(c, "site", tcp=tcp)) == ["10.1.0.2", "10.1.0.3"]
    reverse = dns.reversename.from_address("10.1.0.2").to_text()
    assert addresses(ask(c, reverse, "PTR", tcp=tcp)) == ["web.front."]
    assert ask(c, "web", "AAAA", tcp=tcp).rcode() == dns.rcode.NOERROR
    assert stage.upstreams.received == []


def test_each_container_gets_its_own_view_and_what_changes(stage: Stage) -> None:
    resolver = stage.resolver()
    a, b = stage.container("a"), stage.container("b")
    other = Zone(id="n2", name="back", names={"db": ("10.2.0.2",)}, reverse={})
    resolver.set("a", a, view(forward=False))
    resolver.set("b", b, view(other, forward=False))
    assert (answers(a, "web"), answers(a, "db")) == (True, False)
    assert (answers(b, "web"), answers(b, "db")) == (False, True)
    resolver.update("b", view(WEB, other, forward=False))
    assert answers(b, "web")
    assert answers(b, "db")
    moved = Zone(id="n1", name="front", names={"web": ("10.1.0.9",)}, reverse={})
    resolver.update("b", view(moved, forward=False))
    assert addresses(ask(a, "web")) == ["10.1.0.9"]  # one zone for all on the network
    assert not answers(b, "db")
    assert not answers(b, "site")
    resolver.update("b", view(WEB, other, forward=False))  # removed meanwhile, set again
    assert answers(b, "db")


@pytest.mark.parametrize("tcp", [False, True])
def test_other_names_are_asked_for_from_the_daemons_namespace(stage: Stage, tcp: bool) -> None:
    resolver, c = stage.resolver(), stage.container("c")  # which has no route to anywhere
    resolver.set("c", c, view())
    assert addresses(ask(c, "www.test", tcp=tcp)) == [TRUE]
    assert ask(c, "none.test", tcp=tcp).rcode() == dns.rcode.NXDOMAIN
    assert stage.upstreams.received == [
        (GOOD, "tcp" if tcp else "udp", name) for name in ("www.test", "none.test")
    ]


def test_a_cut_answer_is_fetched_whole_by_tcp(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    assert ask(c, "long.test").flags & dns.flags.TC
    assert addresses(ask(c, "long.test", tcp=True)) == [TRUE]


@pytest.mark.parametrize("tcp", [False, True])
def test_the_next_server_is_asked_if_one_fails(stage: Stage, tcp: bool) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view(upstreams=(ABSENT, FAILING, GOOD)))
    assert addresses(ask(c, "www.test", tcp=tcp)) == [TRUE]
    assert [server for server, _, _ in stage.upstreams.received] == [FAILING, GOOD]


def test_a_silent_server_is_given_two_seconds(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view(upstreams=(SILENT, GOOD)))
    begin = time.monotonic()
    assert addresses(ask(c, "www.test")) == [TRUE]
    assert time.monotonic() - begin > 1.9
    assert [server for server, _, _ in stage.upstreams.received] == [SILENT, GOOD]


@pytest.mark.parametrize("tcp", [False, True])
def test_if_all_servers_fail_so_does_the_query(stage: Stage, tcp: bool) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view(upstreams=(ABSENT, FAILING)))
    assert ask(c, "www.test", tcp=tcp).rcode() == dns.rcode.SERVFAIL


def test_lies_are_not_passed_on(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view(upstreams=(LIAR,)))
    assert addresses(ask(c, "www.test")) == [TRUE]


@pytest.mark.parametrize("tcp", [False, True])
def test_nothing_leaks_from_internal_networks(stage: Stage, tcp: bool) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view(forward=False))
    for name, kind in (("www.test", "A"), ("web", "TXT"), ("9.9.9.9.in-addr.arpa", "PTR")):
        ask(c, name, kind, tcp=tcp)
    assert ask(c, "www.test", tcp=tcp).rcode() == dns.rcode.SERVFAIL
    resolver.update("c", view(forward=True))
    assert addresses(ask(c, "www.test", tcp=tcp)) == [TRUE]
    assert [name for _, _, name in stage.upstreams.received] == ["www.test"]


def test_a_flood_of_one_container_does_not_starve_another(stage: Stage) -> None:
    resolver = stage.resolver()
    a, b = stage.container("a"), stage.container("b")
    resolver.set("a", a, view(upstreams=(SILENT,)))
    resolver.set("b", b, view())
    query = dns.message.make_query("www.test", "A").to_wire()
    with netns.open_socket(a, socket.AF_INET, socket.SOCK_DGRAM) as flood:
        flood.connect(("127.0.0.11", 53))
        flood.settimeout(30)
        for _ in range(200):
            flood.send(query)
        assert dns.message.from_wire(flood.recv(512)).rcode() == dns.rcode.REFUSED
        assert addresses(ask(b, "www.test")) == [TRUE]
        assert answers(a, "web")


def test_several_queries_on_one_connection(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    names = ["web", "www.test", "site", "other.test"]
    queries = [dns.message.make_query(name, "A") for name in names]
    wires = [q.to_wire() for q in queries]
    with netns.open_socket(c, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(("127.0.0.11", 53))
        sock.sendall(b"".join(struct.pack("!H", len(w)) + w for w in wires))
        for query in queries:
            reply, _ = dns.query.receive_tcp(sock)
            assert query.is_response(reply)
            assert reply.answer


def sockets_of(pid: int) -> int:
    count = 0
    for f in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed this very moment
            count += os.readlink(f).startswith("socket:")
    return count


def test_idle_connections_are_bounded_in_number(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    held: list[socket.socket] = []
    try:
        for _ in range(40):
            held.append(netns.open_socket(c, socket.AF_INET, socket.SOCK_STREAM))
            held[-1].connect(("127.0.0.11", 53))
        assert answers(c, "web")
        assert soon(lambda: sockets_of(stage.pid()) < 25)  # it closes the older ones in its time
    finally:
        for sock in held:
            sock.close()


def test_killed_it_comes_back_with_everything(stage: Stage) -> None:
    resolver = stage.resolver()
    spaces = {id: stage.container(id) for id in ("a", "b", "c")}
    for id, path in spaces.items():
        resolver.set(id, path, view())
    first = stage.pid()
    os.kill(first, signal.SIGKILL)
    assert all(soon(lambda path=path: answers(path, "web")) for path in spaces.values())
    assert stage.pid() != first
    assert resolver.known() == set(spaces)
    assert addresses(ask(spaces["a"], "www.test")) == [TRUE]


def test_killed_at_any_moment_the_next_call_succeeds(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    for n in range(5):
        os.kill(stage.pid(), signal.SIGKILL)
        changed = Zone(id="n1", name="front", names={"web": (f"10.1.1.{n}",)}, reverse={})
        resolver.update("c", view(changed))
        assert addresses(ask(c, "web")) == [f"10.1.1.{n}"]


def test_it_goes_on_without_netkitd_and_the_next_one_takes_it_over(stage: Stage) -> None:
    first, c = stage.resolver(), stage.container("c")
    first.set("c", c, view())
    pid = stage.pid()
    first.close(stop=False)
    assert answers(c, "web")
    second = stage.resolver()
    assert second.known() == {"c"}
    changed = Zone(id="n1", name="front", names={"new": ("10.1.0.7",)}, reverse={})
    second.set("c", c, view(changed, forward=False))  # would fail if it opened sockets anew
    assert stage.pid() == pid
    assert answers(c, "new")
    assert not answers(c, "web")
    d = stage.container("d")
    second.set("d", d, view(changed))
    assert answers(d, "new")
    second.remove("c")
    assert second.known() == {"d"}
    assert not answers(c, "new")


def test_a_container_that_starts_again_has_a_new_namespace(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    netns.remove(c)
    netns.create(c)
    resolver.set("c", c, view())
    assert answers(c, "web")


def test_after_remove_the_port_is_free(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    resolver.remove("c")
    resolver.remove("c")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with netns.open_socket(c, socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.11", 53))
    resolver.update("c", view())  # of a removed one: nothing
    assert resolver.known() == frozenset()


def test_a_taken_port_is_a_clear_error(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    with netns.open_socket(c, socket.AF_INET, socket.SOCK_DGRAM) as rival:
        rival.bind(("0.0.0.0", 53))
        with pytest.raises(Conflict, match=r"port 53 at 127\.0\.0\.11 .* is taken"):
            resolver.set("c", c, view())
    assert resolver.known() == frozenset()
    resolver.set("c", c, view())
    assert answers(c, "web")


def test_a_namespace_that_is_not_there_is_a_clear_error(stage: Stage) -> None:
    with pytest.raises(KernelError, match="no network namespace"):
        stage.resolver().set("c", stage.lab.ns("nosuch"), view())


def test_stopped_it_ends_and_leaves_no_socket(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    pid = stage.pid()
    resolver.close(stop=True)
    assert not Path(f"/proc/{pid}").exists()
    assert not (stage.folder / "control").exists()
    assert not answers(c, "web")


def test_without_containers_and_without_a_daemon_it_ends(stage: Stage) -> None:
    resolver, c = stage.resolver(), stage.container("c")
    resolver.set("c", c, view())
    resolver.remove("c")
    pid = stage.pid()
    time.sleep(1.5)
    assert Path(f"/proc/{pid}").exists()
    resolver.close(stop=False)
    assert soon(lambda: not (stage.folder / "control").exists())
    later = stage.resolver()
    later.set("c", c, view())
    assert answers(c, "web")
    assert stage.pid() != pid


def test_many_containers_cost_little_memory(stage: Stage) -> None:
    resolver = stage.resolver()
    names = {f"container-{n}": (f"10.1.{n >> 8}.{n & 255}",) for n in range(2000)}
    reverse = {found[0]: f"{name}.front" for name, found in names.items()}
    zone = Zone(id="n1", name="front", names=names, reverse=reverse)
    spaces = [stage.container(f"c{n}") for n in range(30)]
    for n, path in enumerate(spaces):
        resolver.set(f"c{n}", path, view(zone))
    assert all(answers(path, "container-1999") for path in spaces)
    status = Path(f"/proc/{stage.pid()}/status").read_text()
    resident = next(x for x in status.splitlines() if x.startswith("VmRSS"))
    assert int(resident.split()[1]) < 40_000, resident  # kB

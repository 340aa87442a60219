"""Reserve host ports of published ports by bound sockets in the daemon's own namespace.

A socket that is bound, and for TCP listening, is the only reservation other programs respect.
It answers no client: a socket filter drops all packets, for published traffic is translated
before it could.  One descriptor per port: the daemon raises RLIMIT_NOFILE accordingly.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import chain
from pathlib import Path

from netkit.driver import PortMapping
from netkit.errors import Conflict, InvalidSpec, NotSupported
from netkit.gone import gone
from netkit.kernel.port_socket import drop_all_packets
from netkit.spec import PortSpec

ANY = "0.0.0.0"
FALLBACK = range(49153, 65536)  # where ip_local_port_range can't be read, as Docker
_KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def local_port_range(proc: Path = Path("/proc/sys/net/ipv4")) -> range:
    """The host's ephemeral ports."""
    try:
        low, high = (proc / "ip_local_port_range").read_text().split()
        return range(int(low), int(high) + 1)
    except ValueError:
        return FALLBACK
    except OSError as error:
        if gone(error):
            return FALLBACK
        raise


def reserved_ports(proc: Path = Path("/proc/sys/net/ipv4")) -> frozenset[int]:
    """Ports the administrator keeps from automatic choice, e.g. "8080,9000-9010"."""
    try:
        text = (proc / "ip_local_reserved_ports").read_text().strip()
    except OSError as error:
        if gone(error):
            return frozenset()
        raise
    ports: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        ports.update(range(int(low), int(high or low) + 1))
    return frozenset(ports)


def with_host_address(spec: PortSpec, binding: str) -> PortSpec:
    """Fill in a host address; refuse what cannot be published."""
    if spec.proto not in {"tcp", "udp", "sctp"}:
        raise InvalidSpec(f"invalid proto {spec.proto!r}: use tcp, udp or sctp")
    if not 0 < spec.container_port < 65536:
        raise InvalidSpec(f"invalid container port {spec.container_port}: 1 to 65535")
    if spec.host_first and not spec.host_first <= (spec.host_last or spec.host_first) < 65536:
        raise InvalidSpec(f"invalid host port range {spec.host_first}-{spec.host_last}")
    text = spec.host_ip or binding
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidSpec(f"invalid host address {text!r} for port {spec.container_port}") from None
    if address.version == 6:
        raise NotSupported(f"IPv6 is not supported yet: cannot publish on [{text}]")
    return replace(spec, host_ip=str(address))


@dataclass(slots=True)
class _Held:
    host_ip: str
    holder: str
    socket: socket.socket | None  # None: the host has no such protocol, or another engine binds


class PortAllocator:
    """Thread-safe."""

    def __init__(
        self,
        ephemeral: Callable[[], range] = local_port_range,
        avoid: Callable[[], frozenset[int]] = reserved_ports,
        foreign: Callable[[str, str, int], str] = lambda *_: "",
    ) -> None:
        """`foreign` names the process that listens on (protocol, address, port), or is ""."""
        self._foreign = foreign
        self.called: Callable[[str], str] = lambda _: "a container"  # names holders in messages
        self._ephemeral = ephemeral
        self._avoid = avoid
        self._lock = threading.Lock()
        self._held: dict[tuple[str, int], list[_Held]] = {}
        self._by_holder: dict[str, set[tuple[str, int]]] = {}
        self._last: dict[str, int] = {}

    def reserve(
        self,
        holder: str,
        wants: Sequence[PortSpec],
        target: str,
        binding: str = ANY,
        *,
        bind: bool = True,
    ) -> tuple[PortMapping, ...]:
        """Hold a host port for each of `wants`, or none at all.

        Those without a host address get `binding`; the same port on several addresses gets one
        host port on all of them.  InvalidSpec, NotSupported for what cannot be published; Conflict
        in Docker's words; `target` is the container's address, for the message.  Without `bind`
        the sockets are another engine's: it is reserved among holders only.
        """
        specs = [with_host_address(want, binding) for want in wants]
        done: list[PortMapping] = []
        automatic = (self._ephemeral(), self._avoid())
        try:
            with self._lock:
                try:
                    for group in _groups(specs):
                        done += self._reserve(holder, group, target, automatic, bind)
                except BaseException:
                    self._release(holder, done)
                    raise
        except _PortInUse as busy:  # without the lock: the database or all processes are looked at
            raise Conflict(self._explained(busy)) from busy
        order = {(s.proto, s.container_port, s.host_ip): i for i, s in enumerate(specs)}
        done.sort(key=lambda m: order[m.proto, m.container_port, m.host_ip])
        return tuple(done)

    def restore(
        self, holder: str, mappings: Iterable[PortMapping], target: str, *, bind: bool = True
    ) -> list[str]:
        """Reserve again what was in force before; return the reasons for those that failed."""
        problems: list[Conflict] = []
        with self._lock:
            for m in mappings:
                try:
                    port = (m.proto, m.host_ip, m.host_port)
                    self._bind(holder, *port, target, m.container_port, bind)
                except Conflict as error:
                    problems.append(error)
        return [self._explained(p) if isinstance(p, _PortInUse) else str(p) for p in problems]

    def _explained(self, busy: _PortInUse) -> str:
        """Add the port's process to the error, where it can be found."""
        if busy.holder:
            return f"{busy} (by {self.called(busy.holder)})"
        who = self._foreign(*busy.port) if busy.port else ""
        return f"{busy} (by {who})" if who else str(busy)

    def release(self, holder: str) -> None:
        """Release all ports of this holder."""
        with self._lock:
            for key in self._by_holder.pop(holder, set()):
                self._drop(key, lambda h: h.holder == holder)

    def _reserve(
        self,
        holder: str,
        group: Sequence[PortSpec],
        target: str,
        automatic: tuple[range, frozenset[int]],
        bind: bool,
    ) -> list[PortMapping]:
        spec = group[0]
        error: Conflict | None = None
        for port in self._candidates(spec, *automatic):
            done: list[PortMapping] = []
            try:
                for s in group:
                    self._bind(holder, s.proto, s.host_ip, port, target, s.container_port, bind)
                    done.append(PortMapping(proto=s.proto, container_port=s.container_port,
                                            host_ip=s.host_ip, host_port=port))  # fmt: skip
            except Conflict as bad:
                error = error or bad
                self._release(holder, done)
                if not isinstance(bad, _PortInUse):
                    raise
                continue
            if not spec.host_first:
                self._last[spec.proto] = port
            return done
        if spec.host_first and error is not None and spec.host_last <= spec.host_first:
            raise error
        raise Conflict(
            f"Bind for {spec.host_ip}:{spec.host_first or 0} failed: all ports are allocated"
        ) from error

    def _candidates(self, spec: PortSpec, span: range, avoid: frozenset[int]) -> Iterable[int]:
        if spec.host_first:
            return range(spec.host_first, max(spec.host_last, spec.host_first) + 1)
        # From the one after the last chosen, cyclically, as Docker does: a released port is not
        # given to another container at once, while clients of the first may still send to it.
        start = self._last.get(spec.proto, span.start - 1) + 1
        if start not in span:
            start = span.start
        cyclic = chain(range(start, span.stop), range(span.start, start))
        return (p for p in cyclic if p not in avoid)

    def _bind(
        self, holder: str, proto: str, ip: str, port: int, target: str, inside: int, bind: bool
    ) -> None:
        # By our own list first: bind(2) does not say which container has the port, and there is
        # no socket of a protocol that the host lacks.
        for held in self._held.get((proto, port), ()):
            if ip == held.host_ip or ANY in {ip, held.host_ip}:
                raise _PortInUse(
                    f"Bind for {ip}:{port} failed: port is already allocated", holder=held.holder
                )
        try:
            bound = _bound(proto, ip, port) if bind else None
        except OSError as error:
            why = os.strerror(error.errno or 0)
            said = (
                f"failed to bind host port for {ip}:{port}:{target}:{inside}/{proto}: "
                f"{why[:1].lower()}{why[1:]}"
            )
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise Conflict(said) from error
            raise _PortInUse(said, (proto, ip, port)) from error
        self._held.setdefault((proto, port), []).append(_Held(ip, holder, bound))
        self._by_holder.setdefault(holder, set()).add((proto, port))

    def _release(self, holder: str, mappings: Iterable[PortMapping]) -> None:
        for m in mappings:
            key = (m.proto, m.host_port)
            ip = m.host_ip
            self._drop(key, lambda h, ip=ip: h.holder == holder and h.host_ip == ip)  # type: ignore[misc]
            if not any(h.holder == holder for h in self._held.get(key, ())):
                self._by_holder.get(holder, set()).discard(key)

    def _drop(self, key: tuple[str, int], which: Callable[[_Held], bool]) -> None:
        rest: list[_Held] = []
        for held in self._held.get(key, ()):
            if not which(held):
                rest.append(held)
            elif held.socket is not None:
                held.socket.close()
        if rest:
            self._held[key] = rest
        else:
            self._held.pop(key, None)


class _PortInUse(Conflict):
    """The port is taken, another one may be free.

    `holder`: by a holder of ours; `port`, (protocol, address, port): by a process that is not ours.
    """

    def __init__(
        self, message: str, port: tuple[str, str, int] | None = None, *, holder: str = ""
    ) -> None:
        super().__init__(message)
        self.port, self.holder = port, holder


def _groups(specs: Sequence[PortSpec]) -> list[list[PortSpec]]:
    """Specs that must get one and the same host port, fixed ones first so that they win."""
    out: dict[tuple[object, ...], list[PortSpec]] = {}
    turns: Counter[PortSpec] = Counter()  # equal specs count separately
    for s in sorted(specs, key=lambda s: (s.host_first == 0, s.host_last > s.host_first)):
        key = (s.proto, s.container_port, s.host_first, s.host_last, turns[s])
        turns[s] += 1
        out.setdefault(key, []).append(s)
    return list(out.values())


def _bound(proto: str, ip: str, port: int) -> socket.socket | None:
    try:
        s = socket.socket(socket.AF_INET, *_KINDS[proto])
    except OSError as error:
        if proto == "sctp" and error.errno in {errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}:
            return None
        raise
    try:
        if proto != "udp":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT
        # Before bind(2), from which on packets may arrive.
        drop_all_packets(s)
        s.bind((ip, port))
        if proto != "udp":
            # Two sockets with SO_REUSEADDR may bind one port, unless one of them listens.
            s.listen(1)
    except BaseException:
        s.close()
        raise
    return s

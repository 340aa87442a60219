"""CNI without a daemon: one call, and the end.  `netkit-cni` becomes this for "daemon": "none".

The same front end on a database of its own, under a lock: each call is a start of netkitd without
containers of its own, which restores what is to be there, and ends.  Only bridges: what other
drivers need has to run all the time.  Nothing is repaired between calls, and no names are answered.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from netkit.driver import Driver
from netkit.errors import NetkitError
from netkit.frontends.cni import conf as confs
from netkit.frontends.cni import program
from netkit.frontends.cni.attachments import AttachmentStore
from netkit.frontends.cni.errors import AGAIN, CONFIGURATION, IO, CniError, as_cni
from netkit.frontends.cni.service import CniService
from netkit.gone import gone
from netkit.kernel import netns, port_holders
from netkit.kernel.host import Host
from netkit.network.config import NetworkConfig, predefined_networks
from netkit.network.controller import Controller
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.spec import DEFAULT_DRIVER, NetworkRecord, NetworkSpec
from netkit.store import Database
from runtime.daemon.discovery import load_drivers, occupied_subnets
from runtime.daemon.engine_id import identity
from runtime.daemon.firewall_backend import FirewallBackend, layouts, select
from runtime.paths import Paths

ROOT, RUN = "/var/lib/netkit-cni", "/run/netkit-cni"
SECONDS = 120  # until another call's end
FOLDERS = "NETKIT_CNI_ROOT", "NETKIT_CNI_RUN"  # variables with other folders than those


def main() -> None:
    """Run one call, with CNI_ variables and standard input as CNI has them; exit with its code."""
    logging.basicConfig(level=logging.CRITICAL)
    code, output = run(os.environ, sys.stdin.buffer.read(confs.MAX_BYTES + 1))
    if output:
        sys.stdout.write(output.decode() + "\n")
    sys.stdout.flush()
    sys.exit(code)


def run(environment: Mapping[str, str], given: bytes) -> tuple[int, bytes]:
    """(exit code, output)."""
    env = {k: v for k, v in environment.items() if k.startswith("CNI_")}
    text, version = given.decode(errors="replace"), confs.VERSIONS[-1]
    root, running = (
        Path(environment.get(name) or default)
        for name, default in zip(FOLDERS, (ROOT, RUN), strict=True)
    )
    try:
        asked, _ = confs.lenient(text)
        version = asked if asked in confs.VERSIONS else version
        if env.get("CNI_COMMAND") not in {"DEL", "VERSION"}:
            conf = confs.parse(text)
            _refuse_other_drivers(conf.driver)
            host = environment.get("NETKIT_HOST", "")
            _refuse_daemon(conf.socket or host.removeprefix("unix://") or program.SOCKET)
        with _service(Paths(root, running)) as service:
            return service.call(env, text)
    except CniError as error:
        return 1, error.rendered(version)
    except NetkitError as error:
        return 1, as_cni(error).rendered(version)


def _refuse_daemon(path: str) -> None:
    """Two that make chains and networks on one host would take them from each other."""
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(path)
        except ConnectionRefusedError:  # left by one that was killed
            return
        except OSError as error:
            if gone(error):
                return
            raise CniError(
                IO, f"whether netkitd runs at {path} cannot be found out: {error.strerror}"
            ) from None
    raise CniError(CONFIGURATION, f'netkitd runs at {path}: leave out "daemon": "none"')


def _refuse_other_drivers(driver: str) -> None:
    if driver not in {"", DEFAULT_DRIVER}:
        raise CniError(
            CONFIGURATION,
            f'driver {driver!r} needs netkitd: leave out "daemon": "none", which has the '
            f"{DEFAULT_DRIVER} driver only",
        )


@contextmanager
def _service(paths: Paths) -> Iterator[CniService]:
    """The front end, once this host is as the rows have it."""
    with ExitStack() as stack:
        stack.enter_context(_alone(paths))
        database = Database(paths.database)
        stack.callback(database.close)
        engine = identity(database)
        backend = select("auto", enabled=True)
        host = _host(paths, engine, backend)
        stack.callback(host.close)
        worker = ReconcileQueue(host, ownership(engine, str(paths.netns)))
        stack.callback(worker.close)
        settings = NetworkConfig(bridge="none", ipv6_stack=Path("/proc/sys/net/ipv6").is_dir())
        networks = Controller(
            database, worker, _drivers(settings), backend.firewall,
            engine=engine,
            settings=settings,
            ports=PortAllocator(foreign=port_holders.holder), occupied=occupied_subnets,
            random=secrets.randbits, now_ns=time.time_ns,
        )  # fmt: skip

        def create(spec: NetworkSpec) -> NetworkRecord:
            return networks.create(spec).record

        service = CniService(
            networks,
            AttachmentStore(database),
            nsid=netns.identity,
            create=create,
            remove=networks.remove,
            settle_names=None,
        )
        networks.restore(service.live())
        service.recover()
        yield service


@contextmanager
def _alone(paths: Paths) -> Iterator[None]:
    """Hold the lock.  CniError 11 if another call does not end."""
    try:
        paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.netns.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CniError(AGAIN, f"{error.filename}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CniError(AGAIN, f"another call holds {paths.lock}") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _drivers(settings: NetworkConfig) -> dict[str, Driver]:
    """The default one, and those of the networks that every controller has."""
    return load_drivers({DEFAULT_DRIVER, *(n.driver for n in predefined_networks(settings))})


def _host(paths: Paths, engine: str, backend: FirewallBackend) -> Host:
    return Host(
        namespaces=str(paths.netns),
        variant=backend.variant or "nft",
        chains=tuple(t for layout in layouts() for t in layout.territory.trees),
        owner=f"netkit:{engine}:chains",
        territory=backend.firewall.layout.territory,
        port_maps={m for layout in layouts() for m in layout.port_maps},
    )


if __name__ == "__main__":
    main()



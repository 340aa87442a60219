"""Start the engines to compare, each in its own network namespace."""

from __future__ import annotations

import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from netkit.lab.openvswitch import OpenVSwitch
from tests.engine import image
from tests.engine.daemon import DOCKER, Engine, netkit, netkitd
from tests.engine.wire import Wire, inside

IMAGE = "busybox:latest"
LOGS = ("/dev/log", "/var/run/syslog", "/var/run/log")  # where Go's log/syslog looks


@dataclass(frozen=True)
class Peer:
    """A running engine.  `cli` is the prefix of commands; `host` is the URL of its API."""

    name: str
    host: str
    cli: tuple[str, ...]
    folder: Path  # in the arguments of all the engine's processes
    own_cli: tuple[str, ...] = ()  # netkit's own command line
    engine: Engine | None = None
    switched: bool = False  # it has networks on Open vSwitch

    def environment(self) -> dict[str, str]:
        hidden = ("DOCKER_", "NETKIT_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        return env if self.name == "podman" else env | {"DOCKER_CONFIG": str(self.folder)}


def available(wanted: list[str]) -> dict[str, str]:
    """Why engines cannot be measured here, by name; "" for those that can."""
    found: dict[str, str] = {}
    for name in wanted:
        match name:
            case "netkit":
                found[name] = "" if shutil.which(netkitd()[0]) else "netkitd is not installed"
            case "dockerd":
                found[name] = "" if _dockerd() else "not in PATH nor in NETKIT_TEST_DOCKERD"
            case "podman":
                found[name] = "" if _podman() else "not in PATH nor in NETKIT_BENCH_PODMAN"
            case _:
                found[name] = "unknown (known: netkit, dockerd, podman)"
    return found


def _dockerd() -> bool:
    folder = os.environ.get("NETKIT_TEST_DOCKERD")
    return bool(shutil.which("dockerd") or (folder and Path(folder, "usr/sbin/dockerd").exists()))


def _podman() -> str | None:
    folder = os.environ.get("NETKIT_BENCH_PODMAN")
    return shutil.which("podman", path=f"{folder}/usr/bin" if folder else None)


@contextmanager
def start(name: str) -> Iterator[Peer]:
    """The engine `name` with the image loaded; all of it is removed at exit."""
    with ExitStack() as stack:
        wire = Wire.lay(prefix="nk-b")
        stack.callback(wire.remove)
        if name == "podman":
            stack.enter_context(_syslog())
            yield stack.enter_context(_start_podman(wire))
            return
        switch = stack.enter_context(_open_vswitch(wire)) if name == "netkit" else None
        flags = ("--ovs-db", switch.remote) if switch else ()
        engine = Engine(wire, kind={"netkit": "netkitd"}.get(name, name), flags=flags)
        stack.callback(engine.destroy)
        engine.start()
        engine.load_image(IMAGE)
        yield Peer(
            name=name,
            host=engine.host,
            cli=(DOCKER, "-H", engine.host),
            folder=engine.folder,
            own_cli=(*netkit(), "-H", engine.host) if name == "netkit" else (),
            engine=engine,
            switched=switch is not None,
        )


@contextmanager
def _open_vswitch(wire: Wire) -> Iterator[OpenVSwitch | None]:
    """One in the engine's namespace; None where it is not installed."""
    if not shutil.which("ovs-vswitchd"):
        yield None
        return
    switch = OpenVSwitch(f"/run/netns/{wire.host}", Path(tempfile.mkdtemp(prefix="nk-b")))
    try:
        switch.start()
        yield switch
    finally:
        switch.remove()


@contextmanager
def _syslog() -> Iterator[None]:
    """Receive syslog messages: otherwise conmon's exit command fails, and `podman run` waits 20 s
    for it.
    """
    if any(Path(log).exists() for log in LOGS):
        yield
        return
    with socketserver.UnixDatagramServer(LOGS[1], socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            os.unlink(LOGS[1])


@contextmanager
def _start_podman(wire: Wire) -> Iterator[Peer]:
    """podman's own command line, and its service for the calls through Docker's API."""
    program = _podman()
    assert program is not None
    unpacked = os.environ.get("NETKIT_BENCH_PODMAN", "")
    engine = Engine(wire, kind="podman")  # for its folder and its sweep; never started
    try:
        (engine.folder / "net").mkdir()
        config = engine.folder / "containers.conf"
        config.write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
            f'helper_binaries_dir = ["{unpacked}/usr/lib/podman", "/usr/lib/podman"]\n'
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            f'[network]\nnetwork_config_dir = "{engine.folder}/net"\n'
        )
        env = {**os.environ, "CONTAINERS_CONF": str(config)}
        os.environ["CONTAINERS_CONF"] = str(config)
        cli = tuple(
            inside(
                wire.host, program, "--root", str(engine.root), "--runroot", str(engine.rundir),
                "--tmpdir", str(engine.folder / "tmp"),
            )
        )  # fmt: skip
        loaded = subprocess.run(
            [*cli, "import", "-", IMAGE],
            input=image.rootfs(),
            env=env,
            capture_output=True,
            check=False,
        )
        if loaded.returncode:
            raise RuntimeError(f"podman import: {loaded.stderr.decode()[-300:]}")
        socket = engine.folder / "p.sock"
        service = subprocess.Popen(
            [*cli, "system", "service", "--time=0", f"unix://{socket}"],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                if time.monotonic() > deadline or service.poll() is not None:
                    raise RuntimeError("podman's service does not start")
                time.sleep(0.05)
            yield Peer(name="podman", host=f"unix://{socket}", cli=cli, folder=engine.folder)
        finally:
            subprocess.run(
                [*cli, "rm", "-af", "-t", "0"], env=env, capture_output=True, check=False
            )
            service.terminate()
            service.wait()
    finally:
        os.environ.pop("CONTAINERS_CONF", None)
        engine.destroy()

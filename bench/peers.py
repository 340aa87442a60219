"""Start the engines to compare, each in its own network namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import disks
from netkit.lab.openvswitch import OpenVSwitch
from tests.engine import image
from tests.engine.daemon import DOCKER, Engine, netkit, netkitd
from tests.engine.podman import syslog
from tests.engine.wire import Wire, inside
from tests.places import ROOT

IMAGE = "busybox:latest"
NAMES = ("netkit", "dockerd", "dockerd-newest", "podman", "podman-newest")
RELEASES = ("sid", "trixie")
# Where `script/reference --newest` leaves them: a folder for each release, and the program in it.
NEWEST = {
    "dockerd-newest": (".reference", "usr/sbin/dockerd"),
    "podman-newest": (".reference-podman", "usr/bin/podman"),
}
# Of the C library, which an unpacked podman brings along: a loader fits its own release alone.
LIBRARY = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libmvec.so.1", "libpthread.so.0",
           "libdl.so.2", "librt.so.1", "libresolv.so.2", "libutil.so.1", "libanl.so.1",
           "libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2")  # fmt: skip
HERE = Path("/lib/x86_64-linux-gnu")


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

    @property
    def at_once(self) -> tuple[str, ...]:
        """Flags with which `rm -f` kills: podman first waits ten seconds for each container."""
        return ("-t", "0") if self.name.startswith("podman") else ()

    def environment(self) -> dict[str, str]:
        hidden = ("DOCKER_", "NETKIT_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        return env if self.name.startswith("podman") else env | {"DOCKER_CONFIG": str(self.folder)}


def available(wanted: list[str], unpacked: Path = ROOT) -> dict[str, str]:
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
            case "dockerd-newest" | "podman-newest":
                there = newest(name, unpacked)
                found[name] = "" if there else "not unpacked (run: script/reference --newest)"
            case _:
                found[name] = f"unknown (known: {', '.join(NAMES)})"
    return found


def _dockerd() -> bool:
    folder = os.environ.get("NETKIT_TEST_DOCKERD")
    return bool(shutil.which("dockerd") or (folder and Path(folder, "usr/sbin/dockerd").exists()))


def newest(name: str, unpacked: Path = ROOT) -> Path | None:
    """The folder of an engine that `script/reference --newest` has unpacked."""
    folder, program = NEWEST[name]
    places = (unpacked / f"{folder}-{release}" for release in RELEASES)
    found = (place for place in places if (place / program).exists())
    # podman has libraries of its own.
    return next((place for place in found if name == "podman-newest" or _runs(place)), None)


def _runs(folder: Path) -> bool:
    """Whether this machine's libraries suffice for this dockerd, as the script finds out."""
    programs = (folder / each for each in ("usr/sbin/dockerd", "usr/bin/containerd"))
    return all(
        subprocess.run([each, "--version"], capture_output=True, check=False).returncode == 0
        for each in programs
        if each.exists()
    )


def _podman() -> str | None:
    folder = os.environ.get("NETKIT_BENCH_PODMAN")
    return shutil.which("podman", path=f"{folder}/usr/bin" if folder else None)


@contextmanager
def start(name: str) -> Iterator[Peer]:
    """The engine `name` with the image loaded; all of it is removed at exit."""
    with ExitStack() as stack:
        wire = Wire.lay(prefix="nk-b")
        stack.callback(wire.remove)
        if name.startswith("podman"):
            stack.enter_context(syslog())
            where = stack.enter_context(_program(name))
            yield stack.enter_context(_start_podman(name, wire, where))
            return
        reference = str(newest(name) or "") if name == "dockerd-newest" else ""
        switch = stack.enter_context(_open_vswitch(wire)) if name == "netkit" else None
        flags = ("--ovs-db", switch.remote) if switch else ()
        kind = "netkitd" if name == "netkit" else "dockerd"
        engine = Engine(wire, kind=kind, flags=flags, reference=reference)
        stack.callback(engine.destroy)
        disks.mount(engine)
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


@dataclass(frozen=True)
class Program:
    """How podman is called, and the folders of its helpers; `prefix` leads into its mounts."""

    argv: tuple[str, ...]
    helpers: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    conmon: str = ""


@contextmanager
def _program(name: str) -> Iterator[Program]:
    """podman of this machine, or the newest with its own C library mounted over this machine's.

    podman starts itself again by /proc/self/exe, so calling its loader by name is not enough.
    """
    if name == "podman":
        unpacked, program = os.environ.get("NETKIT_BENCH_PODMAN", ""), _podman()
        assert program is not None
        yield Program((program,), (f"{unpacked}/usr/lib/podman", "/usr/lib/podman"))
        return
    folder = newest(name)
    assert folder is not None
    libraries = folder / "usr/lib/x86_64-linux-gnu"
    pairs = [(libraries / each, HERE / each) for each in LIBRARY]
    # One process: programs that start between two of these mounts would have half of each library.
    script = "\n".join(
        ["import ctypes, os, sys, time", "libc = ctypes.CDLL(None)",
         *(f"libc.mount({str(new)!r}.encode(), {str(old)!r}.encode(), None, 4096, None)"
           for new, old in pairs if new.exists() and old.exists()),
         "print('mounted', flush=True)", "sys.stdin.read()"]
    )  # fmt: skip
    holder = subprocess.Popen(
        ["unshare", "--mount", sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "mounted\n":
            raise RuntimeError("podman's libraries cannot be mounted")
        yield Program(
            ("env", f"LD_LIBRARY_PATH={libraries}", str(folder / "usr/bin/podman")),
            (str(folder / "usr/lib/podman"),),
            ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"),
            str(folder / "usr/bin/conmon"),
        )
    finally:
        holder.communicate("")


@contextmanager
def _start_podman(name: str, wire: Wire, where: Program) -> Iterator[Peer]:
    """podman's own command line, and its service for the calls through Docker's API."""
    engine = Engine(wire, kind="podman")  # for its folder and its sweep; never started
    try:
        (engine.folder / "net").mkdir()
        disks.mount(engine)
        config = engine.folder / "containers.conf"
        conmon = f'conmon_path = ["{where.conmon}"]\n' if where.conmon else ""
        config.write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
            f"helper_binaries_dir = {json.dumps(where.helpers)}\n{conmon}"
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            f'[network]\nnetwork_config_dir = "{engine.folder}/net"\n'
        )
        env = {**os.environ, "CONTAINERS_CONF": str(config)}
        os.environ["CONTAINERS_CONF"] = str(config)
        argv = inside(
            wire.host, *where.argv, "--root", str(engine.root), "--runroot", str(engine.rundir),
            "--tmpdir", str(engine.folder / "tmp"),
        )  # fmt: skip
        # One nsenter for both namespaces.
        cli = (*where.prefix, *argv[1:]) if where.prefix else tuple(argv)
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
            yield Peer(name=name, host=f"unix://{socket}", cli=cli, folder=engine.folder)
        finally:
            subprocess.run(
                [*cli, "rm", "-af", "-t", "0"], env=env, capture_output=True, check=False
            )
            service.terminate()
            service.wait()
    finally:
        os.environ.pop("CONTAINERS_CONF", None)
        engine.destroy()

"""An engine under test in a namespace of its own: netkitd, or dockerd as the reference.

Environment: NETKIT_TEST_ENGINE = netkitd (default) or dockerd; NETKIT_TEST_DOCKERD = root of
unpacked docker.io, containerd and tini packages, when dockerd is not installed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import pytest
from docker import APIClient, DockerClient

from tests.engine import image
from tests.engine.wire import Wire, inside

KIND = os.environ.get("NETKIT_TEST_ENGINE", "netkitd")
DOCKER = os.environ.get("NETKIT_TEST_DOCKER_CLI") or shutil.which("docker") or "docker"
READY_SECONDS = 120
STOP_SECONDS = 20
LOG_TAIL_BYTES = 6000


def netkit_only(why: str) -> pytest.MarkDecorator:
    """Skip on the reference engine, which lacks this or is known to differ: `why`."""
    return pytest.mark.skipif(KIND == "dockerd", reason=f"not so in dockerd: {why}")


def unlike_reference(why: str) -> pytest.MarkDecorator:
    """Skip on dockerd 20.10, which fails where a later Docker passes: `why` says what it lacks."""
    return pytest.mark.skipif(KIND == "dockerd", reason=f"not yet in dockerd 20.10: {why}")


def _tail(file: Path) -> str:
    text = file.read_bytes()[-LOG_TAIL_BYTES:] if file.exists() else b""
    return text.decode(errors="replace")


class Engine:
    """One daemon with its own --root and --run; outlives kills of the daemon's process."""

    def __init__(
        self,
        wire: Wire,
        *,
        kind: str = KIND,
        flags: Sequence[str] = (),
        boot: str = "",
        reference: str = "",
    ) -> None:
        """`boot`: the id of the host's boot that the daemon sees, if not the real one.

        `reference`: the folder of an unpacked dockerd, if not that of NETKIT_TEST_DOCKERD.
        """
        self.kind, self.wire, self.flags = kind, wire, tuple(flags)
        self._unpacked = reference or os.environ.get("NETKIT_TEST_DOCKERD", "")
        # Short: a unix socket's path has at most 107 bytes, and conmon adds a 64-digit id.
        self.folder = Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp"))
        self.root, self.rundir = self.folder / "r", self.folder / "s"
        self.socket = self.folder / "e.sock"
        self.log = self.folder / "daemon.log"
        self.config = self.folder / "cli"  # an empty DOCKER_CONFIG
        self.config.mkdir()
        self._boot = self.folder / "boot_id" if boot else None
        if self._boot:
            self._boot.write_text(f"{boot}\n")
        self._process: subprocess.Popen[bytes] | None = None

    # the daemon's life

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def netns(self) -> str:
        return self.wire.host

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon was never started"
        return self._process.pid

    def start(self) -> None:
        """Start the daemon and wait until it answers; RuntimeError with its log if it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                inside(self.netns, *self._booted(), *self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else "does not answer"
                raise RuntimeError(f"{self.kind} {why}:\n{self.log_tail()}")
            time.sleep(0.02)

    def ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as end:  # cheap: it is tried fifty times a second
                end.connect(str(self.socket))
            client = docker.APIClient(base_url=self.host, version="1.41", timeout=5)
        except (docker.errors.DockerException, OSError):
            return False
        try:
            return bool(client.ping())
        except Exception:  # whatever it is, not ready yet
            return False
        finally:
            client.close()

    def kill9(self) -> None:
        """SIGKILL the daemon itself, nothing else, and reap it."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM; return the exit code, or -9 after SIGKILL when it does not end in time."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                return self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill9()
        return self._process.returncode

    def restart(self) -> None:
        """Start the daemon again after kill9 or stop."""
        assert not self.running(), "it runs: kill9() or stop() it first"
        self.forget_client()
        self.start()

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_tail(self) -> str:
        return _tail(self.log)

    def resolver_log(self) -> str:
        return _tail(self.rundir / "dns/log")

    def destroy(self) -> None:
        """Remove every container, the daemon, and whatever is left on disk and mounted."""
        try:
            if self.running():
                self.clear()
        finally:
            self.forget_client()
            if self._process is not None:
                self.stop()
            self._sweep()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """End by pid what this engine left running (after a failed test), undo its mounts."""
        mark = str(self.folder).encode()
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                mine = mark in (proc / "cmdline").read_bytes() and int(proc.name) != os.getpid()
                mine = mine or any(
                    mark in line
                    for line in (proc / "mountinfo").read_bytes().splitlines()
                    if b" / / " in line
                )
            except OSError:
                continue
            if mine:
                os.kill(int(proc.name), signal.SIGKILL)
        for _ in range(3):
            points = [
                line.split()[4]
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if f"{self.folder}/" in line.split()[4]
            ]
            for point in reversed(points):
                subprocess.run(["umount", "-l", point], capture_output=True, check=False)

    def _booted(self) -> list[str]:
        """The prefix of a command that sees another boot's id, by a mount of its own."""
        if self._boot is None:
            return []
        mount = f"mount --bind {self._boot} /proc/sys/kernel/random/boot_id"
        return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]

    def _command(self) -> list[str]:
        if self.kind == "dockerd":
            return [
                str(self._reference("sbin", "dockerd")),
                "--data-root",
                str(self.root),
                "--exec-root",
                str(self.rundir),
                "--pidfile",
                str(self.folder / "pid"),
                "-H",
                self.host,
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
                "--init-path",
                str(self._reference("bin", "docker-init")),
                "--userland-proxy-path",
                str(self._reference("sbin", "docker-proxy")),
                *self.flags,
            ]
        return [
            *netkitd(),
            "--root",
            str(self.root),
            "--run",
            str(self.rundir),
            "-H",
            self.host,
            *self.flags,
        ]

    def _reference(self, folder: str, name: str) -> Path:
        if self._unpacked:
            return Path(self._unpacked) / "usr" / folder / name
        return Path(shutil.which(name) or name)

    def _environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "NETKIT_"))}
        env |= {k: v for k, v in os.environ.items() if k == "NETKIT_LOG"}
        if self._unpacked and self.kind == "dockerd":
            env["PATH"] = f"{self._unpacked}/usr/bin:{self._unpacked}/usr/sbin:{env['PATH']}"
        return env

    # clients

    def docker(
        self,
        *args: str,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run the stock CLI; with `check` a non-zero exit fails the test with its output."""
        return self._run([DOCKER, "-H", self.host, *args], input, check, timeout)

    def netkit(
        self,
        *args: str,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        return self._run([*netkit(), "-H", self.host, *args], input, check, timeout)

    def _run(
        self, argv: list[str], given: str | bytes | None, check: bool, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv,
            input=given.encode() if isinstance(given, str) else given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            env=self.cli_environment(),
            timeout=timeout,
            check=False,
        )
        text = subprocess.CompletedProcess(
            argv, done.returncode, _text(done.stdout), _text(done.stderr)
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(argv)}: exit {done.returncode}\n"
                f"{text.stdout[-2000:]}{text.stderr[-2000:]}"
            )
        return text

    def cli_environment(self) -> dict[str, str]:
        """Return the environment of a person at a terminal, whatever that of the tests is."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "NETKIT_"))}
        env.pop("NO_COLOR", None)
        own = {"DOCKER_CONFIG": str(self.config), "DOCKER_CLI_HINTS": "false", "TERM": "xterm"}
        own["DOCKER_BUILDKIT"] = "0"
        return env | own

    @cached_property
    def client(self) -> DockerClient:
        return docker.DockerClient(base_url=self.host, version="auto", timeout=60)

    def forget_client(self) -> None:
        """Close docker-py's pool of connections, which the daemon keeps open, too."""
        if "client" in self.__dict__:
            self.client.close()
            del self.__dict__["client"]

    # what tests say most

    def out(self, *args: str, **options: Any) -> str:
        """Return the standard output of a docker command, stripped."""
        return self.docker(*args, **options).stdout.strip()

    def run(self, *args: str, **options: Any) -> str:
        """Return the output of `docker run --rm ...`, stripped."""
        return self.out("run", "--rm", *args, **options)

    def up(self, *args: str, name: str | None = None) -> str:
        """Start a container with `docker run -d`; return its name."""
        name = name or fresh("c")
        self.docker("run", "-d", "--name", name, *args)
        return name

    def sleeper(self, *flags: str, name: str | None = None) -> str:
        """Start a container that sleeps and ends at once on SIGTERM; return its name."""
        return self.up(*flags, "--stop-timeout=1", "busybox", "sleep", "100000", name=name)

    def inspect(self, *refs: str) -> Any:
        """Return the first object of `docker inspect`."""
        return json.loads(self.out("inspect", *refs))[0]

    def state(self, ref: str) -> Any:
        return self.inspect(ref)["State"]

    def address(self, ref: str, network: str = "bridge") -> str:
        address = self.inspect(ref)["NetworkSettings"]["Networks"][network]["IPAddress"]
        assert address, f"{ref} has no address on {network}"
        return str(address)

    def wait_for(self, ref: str, path: str, value: object, within: float = 60) -> None:
        """Wait until State.<path> is `value`."""
        deadline = time.monotonic() + within
        while True:
            have: Any = self.state(ref)
            for step in path.split("."):
                have = have[step] if have is not None else None
            if have == value:
                return
            assert time.monotonic() < deadline, f"{ref}: {path} is {have!r}, not {value!r}"
            time.sleep(0.05)

    def wait_for_output(self, ref: str, text: str, within: float = 60) -> None:
        """Wait until the container has written `text`."""
        deadline = time.monotonic() + within
        while text not in self.out("logs", ref):
            assert time.monotonic() < deadline, f"{ref} has not written {text!r}"
            time.sleep(0.05)

    def load_image(self, name: str = "busybox:latest", changes: Sequence[str] = ()) -> str:
        """Import the test image; return its id."""
        flags = [part for line in (*image.CHANGES, *changes) for part in ("-c", line)]
        return self.out("import", *flags, "-", name, input=image.rootfs())

    def clear(
        self, keep_images: Sequence[str] = ("busybox:latest",), keep_networks: Sequence[str] = ()
    ) -> None:
        """Remove all containers, and own networks, volumes and images except those named."""
        api = self.client.api
        for container in api.containers(all=True):
            if container["State"] == "paused":
                api.unpause(container["Id"])
            try:
                api.remove_container(container["Id"], force=True, v=True)
            except docker.errors.NotFound:
                pass
            except docker.errors.APIError as error:
                if "already in progress" not in str(error):  # an --rm that is on its way
                    raise
        self._await_no_containers()
        for network in api.networks():
            if network["Name"] not in {"bridge", "host", "none", *keep_networks}:
                api.remove_network(network["Id"])
        for volume in api.volumes()["Volumes"] or ():
            api.remove_volume(volume["Name"], force=True)
        while found := self._unwanted_images(api, keep_images):
            removed = [self._remove_image(api, ref) for ref in found]
            assert any(removed), f"cannot be removed: {found}"

    @staticmethod
    def _unwanted_images(api: APIClient, keep: Sequence[str]) -> list[str]:
        """Names and ids to remove: images without one of the names `keep`, and those kept under
        other names; none of the intermediate images of builds, which go with their children."""
        found: list[str] = []
        for entry in api.images():
            tags = [tag for tag in entry.get("RepoTags") or [] if tag != "<none>:<none>"]
            kept = set(tags) & set(keep)
            found += [tag for tag in tags if tag not in keep] if kept else [entry["Id"]]
        return found

    @staticmethod
    def _remove_image(api: APIClient, ref: str) -> bool:
        try:
            api.remove_image(ref, force=True)
        except docker.errors.NotFound:  # it went with another
            return True
        except docker.errors.APIError as error:
            if "dependent child images" in str(error):  # in a later round
                return False
            raise
        return True

    def _await_no_containers(self) -> None:
        deadline = time.monotonic() + 60
        while left := self.client.api.containers(all=True, quiet=True):
            assert time.monotonic() < deadline, f"cannot be removed: {left}"
            time.sleep(0.05)


def netkitd() -> list[str]:
    """Return the command of the netkitd beside the interpreter that runs the tests."""
    program = Path(sys.executable).parent / "netkitd"
    if program.exists():
        return [str(program)]
    return [
        sys.executable,
        "-c",
        "import sys; from runtime.daemon.main import main; sys.exit(main())",
    ]


def netkit() -> list[str]:
    program = Path(sys.executable).parent / "netkit"
    if program.exists():
        return [str(program)]
    return [sys.executable, "-c", "import sys; from netkit.cli import main; sys.exit(main())"]


def fresh(prefix: str) -> str:
    """Return a name that is not in use."""
    return f"{prefix}-{secrets.token_hex(4)}"


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


@contextmanager
def alone(
    *flags: str, prepare: Callable[[Engine], object] = lambda engine: None
) -> Iterator[Engine]:
    """Run an engine with the image, on a wire of its own; remove all of it at the end.

    `prepare` is called before its start.
    """
    wire = Wire.lay()
    try:
        engine = Engine(wire, flags=flags)
        try:
            prepare(engine)
            engine.start()
            engine.load_image()
            yield engine
        finally:
            engine.destroy()
    finally:
        wire.remove()

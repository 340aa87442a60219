"""Debian's podman 4.3 with its CNI back end, on an engine's host, with everything of its own."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engine import image
from tests.engine.cni_runtime import install
from tests.engine.daemon import Engine, fresh
from tests.engine.wire import inside
from tests.places import ROOT

LOGS = ("/dev/log", "/var/run/syslog", "/var/run/log")  # where Go's log/syslog looks
LIBRARIES = "usr/lib/x86_64-linux-gnu"
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


def folder() -> Path:
    """Of the unpacked packages: NETKIT_TEST_PODMAN, else what script/podman has made."""
    return Path(os.environ.get("NETKIT_TEST_PODMAN") or ROOT / ".podman")


def absent() -> str:
    """Why podman cannot run here; "" if it can."""
    if why := os.environ.get("NETKIT_TEST_PODMAN_ABSENT"):
        return why
    program = folder() / "usr/bin/podman"
    if not program.exists():
        return f"needs {program}: script/podman unpacks it"
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, env=_libraries()
    )
    return "" if done.returncode == 0 else done.stderr.strip()


def plugins() -> Path:
    """Folder of the reference plugins of CNI."""
    return folder() / "usr/lib/cni"


def _libraries() -> dict[str, str]:
    found = folder() / LIBRARIES
    own = found if found.exists() else next(folder().glob("usr/lib/*/"), found)
    return {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(own)}


class Podman:
    """Containers run by podman in the engine's network namespace, on networks in `networks`."""

    def __init__(self, engine: Engine, at: Path) -> None:
        self.engine, self.at = engine, at
        self.networks = at / "net.d"
        for path in (self.networks, at / "bin", at / "home/.config/containers"):
            path.mkdir(parents=True)
        (at / "home/.config/containers/policy.json").write_text(POLICY)
        install(at / "bin")
        (at / "containers.conf").write_text(
            "[network]\n"
            'network_backend = "cni"\n'
            f'cni_plugin_dirs = ["{at}/bin", "{plugins()}"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "none"\n'
            'runtime = "runc"\n'
            f"conmon_env_vars = {json.dumps([f'{k}={v}' for k, v in _libraries().items()])}\n"
            "[containers]\n"
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            'log_driver = "k8s-file"\n'
        )
        (at / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{at}/run"\ngraphroot = "{at}/root"\n'
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            **_libraries(),
            "HOME": str(self.at / "home"),
            "CONTAINERS_CONF": str(self.at / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.at / "storage.conf"),
            "NETKIT_HOST": self.engine.host,
        }

    def argv(self, *words: str) -> list[str]:
        at = self.at
        return inside(
            self.engine.netns, str(folder() / "usr/bin/podman"), f"--root={at}/root",
            f"--runroot={at}/run", f"--tmpdir={at}/tmp", f"--network-config-dir={self.networks}",
            *words,
        )  # fmt: skip

    def run(
        self, *words: str, input: bytes | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*words), input=input, capture_output=True, env=self.environment,
            check=False, timeout=timeout,
        )  # fmt: skip
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        assert not check or text.returncode == 0, f"podman {' '.join(words)}: {text.stderr}"
        return text

    def out(self, *words: str, **options: Any) -> str:
        return self.run(*words, **options).stdout.strip()

    def inspect(self, ref: str) -> Any:
        return json.loads(self.out("inspect", ref))[0]

    def network(self, name: str, *more: Mapping[str, Any], **keys: Any) -> None:
        """Write the configuration of a network of netkit's; `more`: plugins after it."""
        capabilities = dict.fromkeys(("portMappings", "ips", "mac", "aliases"), True)
        # Not by the environment alone: conmon has none of it when a container ends by itself.
        socket = self.engine.host.removeprefix("unix://")
        plugin = {"type": "netkit", "socket": socket, "capabilities": capabilities, **keys}
        conf = {"cniVersion": "0.4.0", "name": name, "plugins": [plugin, *more]}
        (self.networks / f"{name}.conflist").write_text(json.dumps(conf))

    def up(self, *words: str, name: str = "") -> str:
        """Start a container that sleeps; return its name."""
        name = name or fresh("p")
        self.run("run", "-d", "--name", name, "--stop-timeout=1", *words, "busybox", "sleep",
                 "100000")  # fmt: skip
        return name

    def clear(self) -> None:
        self.run("rm", "-af", "-t", "0")
        for conf in self.networks.iterdir():
            conf.unlink()


@contextmanager
def syslog() -> Iterator[None]:
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
def podman(engine: Engine) -> Iterator[Podman]:
    """With the test image; nothing of it is left."""
    at = Path(tempfile.mkdtemp(prefix="nk.p.", dir="/tmp"))
    try:
        made = Podman(engine, at)
        made.run("import", "--change", "CMD=sh", "-", "busybox", input=image.rootfs())
        with syslog():
            try:
                yield made
            finally:
                made.clear()
    finally:
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{at}/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(at, ignore_errors=True)

"""The units: verified by systemd, and netkitd on a socket that was passed to it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from runtime.daemon.config_load import load
from tests.engine import wire
from tests.engine.daemon import netkit_only, netkitd
from tests.engine.wire import Wire

pytestmark = [netkit_only("these are netkit's units"), pytest.mark.engine]
UNITS = Path(__file__).parents[2] / "script" / "systemd"


def test_the_units_are_well_formed(tmp_path: Path) -> None:
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS.glob("netkit.*"):
        text = unit.read_text().replace("/opt/netkit/.venv/bin/netkitd", netkitd()[0])
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / "netkit.service"), str(tmp_path / "netkit.socket")]
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_example_of_a_configuration_is_taken() -> None:
    c = load(["--config", str(UNITS / "daemon.json")])
    assert (c.labels, c.warnings) == (("rack=7",), ())


def test_netkitd_serves_the_socket_that_it_is_passed(tmp_path: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    if not activate:
        pytest.skip("systemd-socket-activate is not installed")
    own = Wire.lay()
    path, log = Path("/tmp") / f"nk-{os.getpid()}.sock", tmp_path / "log"
    command = [
        *netkitd(), "-H", "fd://", "--root", f"{tmp_path}/root", "--run", f"{tmp_path}/run",
    ]  # fmt: skip
    with log.open("w") as file:
        daemon = subprocess.Popen(
            wire.inside(own.host, activate, "-l", str(path), *command), stdout=file, stderr=file
        )
    try:
        assert _ping(path, log).endswith(b"\r\n\r\nOK")  # the daemon starts for this very request
        assert path.exists()
    finally:
        daemon.terminate()
        daemon.wait(60)
        path.unlink(missing_ok=True)
        own.remove()


def _ping(path: Path, log: Path) -> bytes:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path))
        sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        answer = b""
        while data := sock.recv(4096):
            answer += data
    return answer


def test_the_page_on_the_units_names_files_that_there_are() -> None:
    text = (UNITS / "README.md").read_text()
    assert all((UNITS / name).exists() for name in ("netkit.service", "netkit.socket"))
    assert json.loads((UNITS / "daemon.json").read_text())
    assert "script/systemd/daemon.json /etc/netkit/daemon.json" in text

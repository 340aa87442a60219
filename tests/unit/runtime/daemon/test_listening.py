"""What the daemon listens on is opened together, and nothing of it stays."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

import pytest

from netkit.errors import Conflict
from runtime.daemon.config import DaemonConfig
from runtime.daemon.config_load import load
from runtime.daemon.listening import listening


def configured(place: Path, *flags: str) -> DaemonConfig:
    group = grp.getgrgid(os.getgid()).gr_name  # may be set without root
    return load(["--run", str(place), "--config-file=/dev/null", f"--group={group}", *flags])


def sockets(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*.sock"))


def test_listeners_are_open_until_the_end(tmp_path: Path) -> None:
    with listening(configured(tmp_path, "--metrics-addr=127.0.0.1:0")) as here:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "netkit.sock"))
        with socket.create_connection(here.metrics[0].sock.getsockname()):
            pass
    assert sockets(tmp_path) == []
    assert [each.sock.fileno() for each in (*here.api, *here.metrics)] == [-1, -1]


def test_one_that_cannot_be_opened_leaves_none_of_the_others(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        flag = f"--metrics-addr=127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Conflict), listening(configured(tmp_path, flag)):
            pass
    assert sockets(tmp_path) == []

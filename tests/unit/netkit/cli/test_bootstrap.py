"""image bootstrap: what its flags ask for, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.bootstrap import busybox, debian, host
from netkit.bootstrap.request import Request
from netkit.cli.app import run
from tests.unit.netkit.cli import cli_fake_daemon
from tests.unit.netkit.cli.cli_fake_daemon import FakeDaemon, anywhere

Asked = list[tuple[Request, Path | None]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with anywhere() as server:
        yield server


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_fake_daemon, "_get", lambda path, query, now: {"Version": "1"})


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Requests that debian.archive got; it makes a file at once."""
    found: Asked = []
    file = tmp_path / "rootfs.tar"
    file.write_bytes(b"tree")

    @contextmanager
    def archive(request: Request, cache: Path | None, where: Path, *, say: Any, log: Any) -> Any:
        found.append((request, cache))
        say("bookworm from a mirror")
        log("I: Unpacking")
        log("noise")
        yield file

    monkeypatch.setattr(debian, "archive", archive)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return found


def netkit(daemon: FakeDaemon, *argv: str) -> int:
    daemon.record.asked.clear()
    return run(["-H", f"unix://{daemon.server_address}", "image", "bootstrap", *argv])


def test_each_flag_is_part_of_the_request(
    daemon: FakeDaemon, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "77")
    assert netkit(
        daemon, "debian:trixie", "--include", "nginx,curl", "--include=vim", "--packages", "ps",
        "--variant=buildd", "--mirror", "http://10.0.0.1/debian", "--components", "main,contrib",
        "--keyring", "k.gpg", "--cache", "kept", "-t", "mine:1",
    ) == 0  # fmt: skip
    request = Request(
        distribution="debian", suite="trixie", variant="buildd", include=("nginx", "curl", "vim"),
        packages=("ps",), components=("main", "contrib"), mirror="http://10.0.0.1/debian",
        keyring=os.path.abspath("k.gpg"), epoch=77,
    )  # fmt: skip
    assert asked == [(request, Path("kept"))]
    (created,) = [row for row in daemon.record.rows() if row[0] == "POST"]
    text = repr(created)
    for part in ("images/create", "mine", "CMD", "bash", "ENV PATH", "bootstrap debian:trixie"):
        assert part in text


def test_without_flags_it_is_minbase_from_the_host_mirror_by_its_own_name(
    daemon: FakeDaemon, asked: Asked
) -> None:
    assert netkit(daemon, "debian:bookworm") == 0
    assert asked == [(Request(distribution="debian", suite="bookworm"), None)]
    assert "bookworm" in repr(daemon.record.rows()[-1])


def test_quiet_says_the_id_only(
    daemon: FakeDaemon, asked: Asked, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netkit(daemon, "debian:bookworm") == 0
    loud = capfd.readouterr()
    assert loud.err == "bookworm from a mirror\nI: Unpacking\n"
    assert netkit(daemon, "-q", "debian:bookworm") == 0
    quiet = capfd.readouterr()
    assert (quiet.out, quiet.err) == (loud.out, "")


def test_an_archive_needs_no_engine(tmp_path: Path, asked: Asked) -> None:
    out = tmp_path / "out.tar"
    assert (
        run(["-H", f"unix://{tmp_path}/none", "image", "bootstrap", "-qo", str(out), "debian"]) == 0
    )
    assert out.read_bytes() == b"tree"
    assert asked[0][0].suite == "stable"


def test_an_engine_of_another_architecture_is_refused_before_anything_is_made(
    daemon: FakeDaemon, asked: Asked, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(host, "machine", lambda: "amd64")
    monkeypatch.setattr(cli_fake_daemon, "_get", lambda path, query, now: {"Arch": "riscv64"})
    assert netkit(daemon, "debian:bookworm") == 1
    assert "the engine is on riscv64, and this machine makes amd64" in capfd.readouterr().err
    assert asked == []


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["busybox", "--include", "nginx"], "--include is of distributions"),
        (["busybox:1", "-o", "x"], "has no suites: name the image by -t busybox:1"),
        (["debian", "-o", "x", "-t", "y"], "give one of them"),
        (["Debian:x", "-o", "x"], "DISTRIBUTION:SUITE"),
        ([], "requires 1 argument"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    daemon: FakeDaemon, argv: list[str], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netkit(daemon, *argv) == 1
    err = capfd.readouterr().err
    assert why in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not busybox.BINARY.exists(), reason="needs busybox-static")
@pytest.mark.parametrize("name", ["busybox", "busybox:latest"])
def test_busybox_is_an_image_with_a_shell(daemon: FakeDaemon, name: str) -> None:
    assert netkit(daemon, name) == 0
    (created,) = [row for row in daemon.record.rows() if row[0] == "POST"]
    assert "busybox" in repr(created)
    assert '["sh"]' in repr(created).replace("%22", '"').replace("%5B", "[").replace("%5D", "]")

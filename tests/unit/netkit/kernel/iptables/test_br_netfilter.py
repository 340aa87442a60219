"""Loading br_netfilter leaves other bridges as they were."""

from __future__ import annotations

from pathlib import Path

from netkit.kernel.iptables import br_netfilter


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "bridge-nf-call-iptables").write_text("1")
    assert br_netfilter.ensure(tmp_path, "/does/not/exist") == ""
    assert (tmp_path / "bridge-nf-call-iptables").read_text() == "1"


def test_what_loading_switches_on_for_all_bridges_is_switched_off_again(tmp_path: Path) -> None:
    settings = tmp_path / "bridge"
    files = " ".join(str(settings / name) for name in br_netfilter.NAMES)
    load = f"mkdir {settings}; for f in {files}; do echo 1 > $f; done"
    assert br_netfilter.ensure(settings, program(tmp_path / "modprobe", load)) == ""
    assert {(settings / name).read_text() for name in br_netfilter.NAMES} == {"0"}


def test_without_it_the_consequence_is_returned(tmp_path: Path) -> None:
    fails = program(tmp_path / "modprobe", "echo 'Module not found' >&2; exit 1")
    for modprobe in (fails, "/does/not/exist"):
        why = br_netfilter.ensure(tmp_path / "bridge", modprobe)
        assert "do not hold between containers of one bridge" in why
    assert "Module not found" in br_netfilter.ensure(tmp_path / "bridge", fails)

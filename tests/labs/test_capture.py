"""`netkit capture` on a lab: where it listens, what it writes, when it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.utils import PcapNgReader

from netkit.lab.running import RunningLab
from tests.labs.conftest import CLONE, netkit

pytestmark = pytest.mark.lab("labs/12-docker0")
SPENT = "sleep 0.1"  # of a point without packets


def capture(lab: RunningLab, *words: str) -> subprocess.CompletedProcess[str]:
    return netkit("capture", "--lab", "labs/12-docker0", "--name", lab.name, *words, check=False)


def on(lab: RunningLab, container: str, command: str) -> str:
    """A shell command that runs another in a container."""
    url = lab.h1.daemon.url
    return f"cd {CLONE}; {sys.executable} -m netkit -H {url} exec {container} {command}"


def page(lab: RunningLab) -> str:
    return f"ip netns exec {lab.places.namespace('outside')} curl -s http://10.0.0.1:8080/"


def read(file: Path) -> list[IP]:
    with PcapNgReader(str(file)) as reader:
        return list(reader)


def test_a_published_ports_packet_is_shown_before_and_after_dnat(lab: RunningLab) -> None:
    done = capture(lab, "h1/eth0", "web", "tcp", "--while", page(lab))
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stderr
    first, second = (line.split() for line in done.stdout.splitlines()[:2])
    assert (first[1:3], first[8]) == (["h1@eth0", "in"], "10.0.0.1:8080")
    assert (second[1:3], second[8]) == (["web@eth0", "in"], f"{lab.web.ip}:80")
    assert 0 <= moment(second[0]) - moment(first[0]) < 0.1


def moment(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_a_link_is_its_ends_and_a_container_its_interfaces(lab: RunningLab) -> None:
    for point in ("lan", "h1-outside"):
        said = capture(lab, point, "client:bridge", "--while", SPENT).stderr
        assert said.startswith("capturing at h1@eth0, outside@eth0, client@eth0\n")
    words = ("capture", "web", "docker0", "host@eth0", "--while", SPENT)
    done = netkit("-H", lab.h1.daemon.url, *words)
    assert done.stderr.startswith("capturing at web@eth0, host@docker0, host@eth0\n")


def test_a_file_has_what_net_trace_says_of_its_flows(lab: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "all.pcapng"
    rule = lab.netkit("h1", "fw", "drop", "--src", "client", "--to", "web").split()[0]
    try:
        ping = on(lab, "client", f"ping -c 1 -W 1 {lab.web.ip}")
        done = capture(lab, "client", "web", "icmp", "--trace", "-w", str(file), "--while", ping)
    finally:
        lab.netkit("h1", "fw", "rm", rule)
    assert done.returncode == 1  # that of ping
    (frame,) = read(file)
    assert frame[ICMP].type == 8
    assert frame.sniffed_on in ("client@eth0", b"client@eth0")
    (comment,) = frame.comments
    assert comment.startswith(b"net trace: BLOCKED: dropped in the host by rule ")
    assert b"container client of host h1 of lab" in file.read_bytes()


def test_it_ends_after_packets_a_time_or_a_size(lab: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "some.pcapng"
    many = on(lab, "client", f"ping -c 60 -i 0.02 -s 1000 {lab.web.ip}")
    capture(lab, "web", "icmp", "-c", "3", "-w", str(file), "--while", many)
    assert len(read(file)) == 3
    capture(lab, "web", "icmp", "--max-size", "9k", "--snaplen", "100", "-w", str(file),
            "--while", many)  # fmt: skip
    assert 8500 < file.stat().st_size <= 9 << 10
    assert {len(bytes(frame)) for frame in read(file)} == {100}
    begun = time.monotonic()
    assert capture(lab, "web", "--duration", "300ms", "-w", str(file)).returncode == 0
    assert 0.3 < time.monotonic() - begun < 20


def test_the_interface_is_promiscuous_while_it_is_captured(lab: RunningLab) -> None:
    look = f"ip -n {lab.places.namespace('h1')} -d link show eth0 | grep -o 'promiscuity .'"
    assert "promiscuity 1" in capture(lab, "h1@eth0", "--while", look).stderr
    assert "promiscuity 0" in capture(lab, "h1@eth0", "-p", "--while", look).stderr


def test_a_signal_or_a_reader_that_goes_ends_it(lab: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "ended.pcapng"
    argv = [sys.executable, "-m", "netkit", "capture", "--lab", lab.name, "web", "-w"]
    with subprocess.Popen([*argv, str(file)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("capturing at")
        lab.client.run("ping", "-c", "1", lab.web.ip)
        process.terminate()
        assert process.wait(20) == 0
        assert "dropped by the kernel" in process.stderr.read()
    assert any(ICMP in frame for frame in read(file))
    ping = on(lab, "client", f"ping -c 5 -i 0.1 {lab.web.ip} >/dev/null")
    with subprocess.Popen([*argv, "-", "--while", ping], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == "capturing at web@eth0\n"
        assert process.wait(20) == 128 + 13


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ("wbe", 1, "has no 'wbe', did you mean 'web'?"),
        ("h1@eth9", 1, "h1 has no interface 'eth9', did you mean 'eth0'?"),
        ("web:lane", 1, "container web is on no network 'lane' (there are: bridge)"),
        ("web@eth7", 1, "container web has no interface 'eth7', did you mean 'eth0'?"),
        ("web tcp prt 80", 2, "filter 'tcp prt 80': can't parse filter expression: syntax error"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    lab: RunningLab, words: str, code: int, reason: str
) -> None:
    done = capture(lab, *words.split(), "-w", "/dev/null")
    assert reason in done.stderr
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, "")


def test_an_engine_of_another_machine_is_refused() -> None:
    done = netkit("-H", "tcp://127.0.0.1:9", "capture", "web", check=False)
    assert "tcp://127.0.0.1:9 may be another" in done.stderr
    assert done.returncode == 1

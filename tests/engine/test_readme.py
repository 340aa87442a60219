"""README's tour, line by line, with the containers that script/demo leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.engine import image, wire
from tests.engine.daemon import Engine, netkit_only

pytestmark = netkit_only("the tour is of netkit")
WEB = ("--name", "web", "-p", "8080:80", "demo:busybox", "httpd", "-f", "-h", "/")
README = (Path(__file__).parents[2] / "README.md").read_text()


SECTIONS = ("\n## Two commands\n", "\n## A short tour\n", "\nAn engine of your own",
            "\nSeveral hosts on one machine", "\n## How the parts")  # fmt: skip


def section(number: int) -> list[str]:
    """Return the command lines between two of the headings."""
    text = README.partition(SECTIONS[number])[2].partition(SECTIONS[number + 1])[0]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    return [re.sub(r" +#.*", "", line) for line in lines]


def tour() -> list[str]:
    """Return the command lines of the tour up to where it leaves the demo's engine."""
    return section(1)


def test_the_tour_is_found() -> None:
    assert len(tour()) > 15
    assert {line.split()[0] for line in tour()} == {"export", "netkit", "docker", "iptables"}


def test_every_command_line_is_in_a_section_that_is_run() -> None:
    """The first section is tested by test_scripts.py, the last by tests/labs."""
    assert section(0) == ["script/demo", "script/test"]
    head, _, rest = README.partition(SECTIONS[0])
    outside = head + rest.partition(SECTIONS[-1])[2]
    commands = r"    (netkitd?|docker|export|kill|ip|iptables|script/\S+)( |$)"
    assert not [line for line in outside.splitlines() if re.match(commands, line)]
    assert {line.split()[1] for line in section(3)} == {"lab"}


# A host of its own: network, processes, /run and /var/lib.
_WORLD = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 netkit /run
mount -t tmpfs -o mode=755 netkit /var/lib
ip link set lo up
answers() {
    for _ in $(seq 150); do netkit version >/dev/null 2>&1 && return; sleep 0.1; done
    echo "no answer"; exit 1
}
"""
_BEFORE = """
netkit import - busybox <"$IMAGE" && netkit run -d --name stays busybox sleep 1000
before=$(netkit inspect -f '{{.State.Pid}}' stays)
"""
_AFTER = """
answers
after=$(netkit inspect -f '{{.State.Pid}}' stays)
test "$before" = "$after" && kill -0 "$before" && echo "it stays"
netkit rm -f stays
"""


def test_an_engine_of_ones_own_is_killed_and_its_containers_stay(tmp_path: Path) -> None:
    plain, flagged, asked, killed = section(2)
    assert (plain, killed.startswith("kill -9 ")) == ("netkitd", True)
    (tmp_path / "rootfs.tar").write_bytes(image.rootfs())
    script = _WORLD + f"{plain} & answers; kill $!; wait $!\n{flagged} & answers\n{asked} || exit 1"
    argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*argv, "sh", "-e"], input=f"{script}\n{_BEFORE}{killed}\n{_AFTER}".encode(),
        env={**environment(), "IMAGE": str(tmp_path / "rootfs.tar")},
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert b"it stays" in done.stdout, (done.stdout + done.stderr)[-3000:].decode()
    assert done.returncode == 0
    assert b"rack=7" in done.stdout


def test_every_line_of_the_tour_works(engine: Engine) -> None:
    engine.docker("tag", "busybox", "demo:busybox")
    engine.out("run", "-d", *WEB)
    engine.out("run", "-d", "--name", "client", "demo:busybox", "sleep", "1000")
    address = engine.address("web")
    try:
        take(engine, address)
    finally:  # rules typed by hand stay until they are taken back by hand
        run(engine, f"iptables -D DOCKER -s 192.0.2.7 -d {address} -p tcp --dport 80 -j DROP")


def take(engine: Engine, address: str) -> None:
    for line in tour():
        if line.startswith("export "):
            continue  # the demo's paths
        # a shell needs a user who types; SRC and DST stand for what the reader has
        command = line.replace(" -it ", " -i ").replace("SRC", "192.0.2.7").replace("DST", address)
        if line.startswith("netkit ui"):  # until Ctrl-C
            command = f"timeout --signal INT 5 {command}; [ $? = 124 ] && echo it ran"
        done = run(engine, command)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        assert not line.startswith("netkit ui") or "http://127.0.0.1:" in done.stdout


def environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment with netkit's programs in PATH, without DOCKER_* and NETKIT_*."""
    env = {k: v for k, v in given.items() if not k.startswith(("DOCKER_HOST", "NETKIT_"))}
    return env | {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}:/usr/sbin:/sbin"}


def run(engine: Engine, line: str) -> subprocess.CompletedProcess[str]:
    env = environment(engine.cli_environment()) | {"DOCKER_HOST": engine.host}
    return subprocess.run(
        wire.inside(engine.netns, "sh", "-c", line), env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("page", re.findall(r"\]\(([^)#]+)\)", README))
def test_what_it_links_to_is_there(page: str) -> None:
    assert page.startswith("http") or (Path(__file__).parents[2] / page).exists()

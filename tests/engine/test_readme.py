"""README's tour, line by line, with the containers that script/demo leaves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only

pytestmark = netkit_only("the tour is of netkit")
WEB = ("--name", "web", "-p", "8080:80", "demo:busybox", "httpd", "-f", "-h", "/")
README = (Path(__file__).parents[2] / "README.md").read_text()


def tour() -> list[str]:
    """Command lines of the tour up to where it leaves the demo's engine."""
    text = README.partition("## A short tour\n")[2].partition("\nAn engine of your own")[0]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    return [re.sub(r" +#.*", "", line) for line in lines]


def test_the_tour_is_found() -> None:
    assert len(tour()) > 15
    assert {line.split()[0] for line in tour()} == {"export", "netkit", "docker", "iptables"}


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
        # a shell needs somebody who types; SRC and DST stand for what the reader has
        command = line.replace(" -it ", " -i ").replace("SRC", "192.0.2.7").replace("DST", address)
        done = run(engine, command)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def run(engine: Engine, line: str) -> subprocess.CompletedProcess[str]:
    environment = engine.cli_environment() | {"DOCKER_HOST": engine.host}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        wire.inside(engine.netns, "sh", "-c", line), env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("page", re.findall(r"\]\(([^)#]+)\)", README))
def test_what_it_links_to_is_there(page: str) -> None:
    assert page.startswith("http") or (Path(__file__).parents[2] / page).exists()

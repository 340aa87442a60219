"""What docs/docker-plugin.md shows of compose, refusals and moving off is so, with dockerd."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.daemon import KIND
from tests.engine.dockerd import DockerHost, docker_host
from tests.engine.test_compose import _version_1, _version_2
from tests.engine.wire import HOST, inside, run
from tests.places import ROOT

pytestmark = pytest.mark.skipif(KIND == "dockerd", reason="it is about netkitd beside dockerd")
PAGE = (ROOT / "docs/docker-plugin.md").read_text()
SERVER = "image: busybox\n    command: httpd -f -h /www\n"  # what nginx is here


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def typed(title: str, indent: str = "    ") -> list[str]:
    """Lines to type of a section, without comments."""
    lines = [k[len(indent) :] for k in section(title).splitlines() if k.startswith(indent)]
    return [re.sub(r"\s+# .*", "", line) for line in lines if line[:1] != " " or indent == "    "]


@pytest.fixture(scope="module")
def shared() -> Iterator[DockerHost]:
    with docker_host("--live-restore") as host:
        yield host


@pytest.fixture
def host(shared: DockerHost) -> Iterator[DockerHost]:
    yield shared
    if not shared.netkit.running():
        shared.netkit.restart()
    shared.docker.clear()
    shared.wait("netkit has nothing left", lambda: not shared.networks() and not shared.links())


@pytest.mark.parametrize("version", [_version_1, _version_2], ids=["1.29", "v2"])
def test_a_project_of_compose(
    host: DockerHost, tmp_path: Path, version: Callable[[], list[str]]
) -> None:
    program = version()
    given, _, after = "\n".join(typed("With compose")).partition("\nEND\n")
    text = given.partition("<<END\n")[2].replace("image: nginx\n", SERVER)
    assert SERVER in text
    if version is _version_1:
        text = f'version: "2.4"\n{text}'
    (tmp_path / "docker-compose.yml").write_text(f"{text}\n")
    shown = []
    for command in after.splitlines():
        words = shlex.split(command)
        assert words[0] == "docker-compose"
        done = subprocess.run(
            [*program, "--ansi", "never", *words[1:]], cwd=tmp_path, capture_output=True, text=True,
            env={**host.docker.cli_environment(), "DOCKER_HOST": host.docker.host}, check=False,
            stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        shown.append(done.stdout)
        if "up" in words:
            assert [n["Name"] for n in host.networks()] == ["lane"]
            assert "hello" in run(host.netkit.wire.neighbour, "curl", "-s", f"{HOST}:8080").stdout
    assert "hello" in shown[1]
    assert host.networks() == []


def refusals() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| `(.+?)`.* \| `(.+?)` \|$", section(
        "What dockerd says when netkit refuses"), re.M)  # fmt: skip
    assert len(rows) == 15
    return rows


def test_refusals_are_shown_as_the_page_has_them(host: DockerHost) -> None:
    docker = host.docker.docker
    common = ("network", "create", "-d", "netkit-bridge", "--ipam-driver", "netkit", "--subnet")
    docker(*common, "10.44.0.0/24", "back")
    docker(*common, "10.50.0.0/30", "tiny")
    host.docker.up("--network", "tiny", "busybox", "sleep", "1000")
    host.docker.up("--network", "back", "--ip", "10.44.0.9", "-p", "8080:80", "busybox", "sleep",
                   "1000")  # fmt: skip

    def refused(row: tuple[str, str]) -> str:
        done = docker(*shlex.split(row[0]), check=False, timeout=120)
        return f"{done.returncode} {done.stderr}"

    at_once, late = refusals()[:-2], refusals()[-2:]
    for command, text in at_once:
        assert text in (shown := refused((command, text))), (command, shown)
        assert shown[0] != "0"
    host.netkit.stop()
    with ThreadPoolExecutor(2) as pool:
        for (command, text), shown in zip(late, pool.map(refused, late), strict=True):
            assert text in shown, (command, shown)


def test_a_lost_database(host: DockerHost) -> None:
    """What the former engine made is removed as the page says, and networks are made anew."""
    create = ("network", "create", "-d", "netkit-bridge", "--ipam-driver", "netkit", "lane")
    host.docker.docker(*create)
    name = host.docker.sleeper("--network", "lane")
    host.named(name)
    host.netkit.stop()
    for path in host.netkit.root.glob("netkit.db*"):
        path.unlink()
    with pytest.raises(RuntimeError, match="belongs to another netkit"):
        host.netkit.restart()
    rules = "\n".join(k[8:] for k in section("Moving off").splitlines() if k[:8] == " " * 8)
    (links,) = typed("Restarts, kills, and what was missed")
    for script in (rules, links):
        done = run(host.netkit.netns, "sh", "-ec", script)
        assert (done.returncode, done.stderr) == (0, ""), script
    host.netkit.restart()
    refused = host.docker.docker("restart", "-t1", name, check=False).stderr
    assert "remove the network, and create it anew" in refused
    host.docker.docker("rm", "-f", name)
    host.docker.docker("network", "rm", "lane")
    host.docker.docker(*create)
    host.named(host.docker.sleeper("--network", "lane"))


def test_moving_off(host: DockerHost) -> None:
    docker = host.docker.docker
    docker("network", "create", "-d", "netkit-bridge", "--ipam-driver", "netkit", "lane")
    docker("run", "-d", "--name", "web", "--network", "lane", "-p", "8080:80", "--stop-timeout=1",
           "busybox", "httpd", "-f", "-h", "/www")  # fmt: skip
    page = section("Moving off")
    first = [k.strip() for k in page.splitlines() if re.match(r"    docker ", k)]
    for command in first:
        shown = docker(*shlex.split(command.partition("#")[0])[1:]).stdout
        if " ls " in command:
            assert "lane" in shown
    assert {n["Name"] for n in host.net("/networks")} == {"host", "none"}
    bridges = run(host.netkit.netns, "ip", "-o", "link", "show", "type", "bridge").stdout
    assert len(bridges.splitlines()) == 2, bridges  # docker0, and that of dockerd's network
    assert host.netkit.stop() == 0
    assert [*host.plugins.iterdir()] == []
    script = "\n".join(k[8:] for k in page.splitlines() if k.startswith(" " * 8))
    assert "DOCKER-USER" in script

    def there(*argv: str) -> str:
        return subprocess.run(
            inside(host.netkit.netns, *argv), capture_output=True, text=True, check=True
        ).stdout

    assert "netkit:" in there("iptables-save")
    there("sh", "-ec", script)
    rules = there("iptables-save")
    assert "netkit" not in rules
    assert rules.count("-A FORWARD -j DOCKER-USER") == 1
    for _ in range(2):
        web = run(host.netkit.wire.neighbour, "curl", "-s", "-m", "20", f"http://{HOST}:8080/")
        assert "hello" in web.stdout
        host.docker.stop()
        host.restart_docker()

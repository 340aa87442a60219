"""What netkit prints about real objects is what the stock CLI prints about them."""

from __future__ import annotations

import json
import re

import pytest

from tests.engine import image
from tests.engine.daemon import Engine, fresh

pytestmark = [pytest.mark.root, pytest.mark.engine]


@pytest.fixture
def populated(engine: Engine) -> tuple[str, str, str]:
    """A running container with ports, a stopped one, a network with both."""
    network = fresh("net")
    engine.netkit("net", "create", "--label", "a=b", "--subnet", "10.99.0.0/24", network)
    running = fresh("up")
    engine.netkit(
        "run", "-d", "--name", running, "--network", network, "--label", "tier=front",
        "-p", "18080:80", "-p", "127.0.0.1::53/udp", "--stop-timeout=1", "busybox", "sleep", "1000",
    )  # fmt: skip
    ended = fresh("end")
    engine.netkit("run", "--name", ended, "busybox", "sh", "-c", "echo hi; touch /made")
    return running, ended, network


def settled(text: str) -> str:
    """Seconds pass between two commands, and widen a column; golden tests look at the widths."""
    return re.sub(r" +", " ", re.sub(r"(Less than a second|\d+ seconds?)", "N seconds", text))


COMMANDS = [
    "ps", "ps -a", "ps -aq", "ps -a --no-trunc", "ps -as", "ps -l", "ps -f status=exited",
    "images", "images -q --no-trunc", "images --digests", "history busybox", "network ls",
    "network ls --no-trunc -f driver=bridge", "top RUNNING -eo pid,comm", "port RUNNING",
    "diff ENDED",
    "logs ENDED", "system df", "inspect -f {{.State.Status}}{{.HostConfig.NetworkMode}} RUNNING",
    "inspect -f {{range.Config.Env}}{{println.}}{{end}} RUNNING",
    "network inspect -f {{(index.IPAM.Config0).Subnet}}{{.Labels}} NETWORK",
]  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_the_same_as_docker(engine: Engine, populated: tuple[str, str, str], line: str) -> None:
    names = dict(zip(("RUNNING", "ENDED", "NETWORK"), populated, strict=True))
    words = [names.get(word, word) for word in line.split()]
    words = [word.replace("range.", "range .").replace("println.", "println .") for word in words]
    words = [word.replace("index.IPAM.Config0", "index .IPAM.Config 0") for word in words]
    ours, theirs = engine.netkit(*words), engine.docker(*words)
    assert settled(ours.stdout) == settled(theirs.stdout)
    assert ours.stdout.strip()


def test_inspect_is_the_daemons_json(engine: Engine, populated: tuple[str, str, str]) -> None:
    for name in (populated[0], "busybox", populated[2]):
        assert json.loads(engine.netkit("inspect", name).stdout) == json.loads(
            engine.docker("inspect", name).stdout
        )


def test_a_round_of_changes(engine: Engine, populated: tuple[str, str, str]) -> None:
    running, ended, network = populated
    other = fresh("net")
    engine.netkit("network", "create", other)
    engine.netkit("network", "connect", "--alias", "web", other, running)
    assert "web" in engine.inspect(running)["NetworkSettings"]["Networks"][other]["Aliases"]
    engine.netkit("net", "disconnect", other, running)
    assert engine.netkit("net", "rm", other).stdout == f"{other}\n"
    for verb, state in (("pause", "paused"), ("unpause", "running"), ("restart", "running")):
        assert engine.netkit(verb, running).stdout == f"{running}\n"
        assert engine.state(running)["Status"] == state
    engine.netkit("update", "-m", "64m", "--memory-swap", "128m", running)
    assert engine.inspect(running)["HostConfig"]["Memory"] == 64 << 20
    new = fresh("new")
    engine.netkit("rename", running, new)
    assert engine.netkit("kill", "-s", "KILL", new).stdout == f"{new}\n"
    assert engine.netkit("rm", new, ended).stdout == f"{new}\n{ended}\n"
    assert engine.netkit("network", "prune", "-f").stdout == f"Deleted Networks:\n{network}\n\n"


def test_a_name_that_fails_does_not_stop_the_rest(engine: Engine) -> None:
    name = engine.sleeper()
    done = engine.netkit("stop", "-t", "0", "nosuch", name, check=False)
    assert (done.returncode, done.stdout) == (1, f"{name}\n")
    assert done.stderr == "Error response from daemon: No such container: nosuch\n"


def test_images_travel_as_archives(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")
    (folder / "root.tar").write_bytes(image.rootfs())
    made = engine.netkit("import", "-c", 'CMD ["sh"]', str(folder / "root.tar"), "new:1").stdout
    assert made.startswith("sha256:")
    engine.netkit("tag", "new:1", "new:2")
    engine.netkit("save", "-o", str(folder / "saved.tar"), "new:1", "new:2")
    assert "Untagged: new:1" in engine.netkit("rmi", "new:1", "new:2").stdout
    loaded = engine.netkit("load", "-i", str(folder / "saved.tar")).stdout
    assert "Loaded image: new:1\n" in loaded
    assert engine.netkit("run", "--rm", "new:2", "echo", "hi").stdout == "hi\n"
    name = fresh("c")
    engine.netkit("create", "--name", name, "new:1")
    engine.netkit("export", "-o", str(folder / "exported.tar"), name)
    assert (folder / "exported.tar").stat().st_size > 1_000_000
    assert [path.name for path in folder.glob(".*")] == []


def test_events_of_a_life(engine: Engine) -> None:
    name = fresh("c")
    start = engine.netkit("info", "-f", "{{.SystemTime}}").stdout.strip()
    engine.netkit("run", "--rm", "--name", name, "busybox", "true")
    recorded = engine.netkit(
        "events", "--since", start, "--until", "0s", "-f", f"container={name}",
        "--format", "{{.Action}}",
    ).stdout.split()  # fmt: skip
    lifecycle = [action for action in recorded if action in ("create", "start", "die", "destroy")]
    assert lifecycle == ["create", "start", "die", "destroy"]


def test_stats_once(engine: Engine) -> None:
    name = engine.sleeper()
    lines = engine.netkit("stats", "--no-stream").stdout.splitlines()
    assert re.match(r"CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O", lines[0])
    assert re.search(rf"{name} +\d+\.\d\d% +[\d.]+[KM]iB / ", lines[1])


def test_the_daemon_is_missed_in_one_line(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = f"unix://{tmp_path_factory.mktemp('no')}/sock"
    done = engine.netkit("-H", nowhere, "ps", check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1

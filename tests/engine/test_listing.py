"""ps, top, stats, port, events, info, version: what an engine reports about its containers."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from netkit.testing.waiting import readable
from tests.engine.daemon import DOCKER, Engine, fresh, unlike_reference


def names(engine: Engine, *flags: str) -> list[str]:
    return sorted(engine.out("ps", "--format", "{{.Names}}", *flags).split())


def test_ps_shows_running_ones_and_all_with_a(engine: Engine) -> None:
    up, down = engine.sleeper(), engine.sleeper()
    engine.docker("kill", down)
    engine.wait_for(down, "Running", False)
    assert names(engine) == [up]
    assert names(engine, "-a") == sorted([up, down])


def test_ps_columns(engine: Engine) -> None:
    name = engine.sleeper("-p", "8123:80", "--expose", "99", "-l", "colour=red")
    row = json.loads(engine.out("ps", "--no-trunc", "--format", "json"))
    assert row["Image"] == "busybox"
    assert row["Command"] == '"sleep 100000"'
    assert row["State"] == "running"
    assert re.match(r"Up (Less than a|\d+) second", row["Status"])
    assert "0.0.0.0:8123->80/tcp" in row["Ports"]
    assert "99/tcp" in row["Ports"]
    assert (row["Names"], row["Labels"], row["Networks"]) == (name, "colour=red", "bridge")
    assert len(row["ID"]) == 64


def test_ps_last_latest_quiet_size(engine: Engine) -> None:
    made = [engine.sleeper() for _ in range(3)]
    assert engine.out("ps", "-l", "--format", "{{.Names}}") == made[-1]
    assert engine.out("ps", "-n", "2", "--format", "{{.Names}}").split() == made[:0:-1]
    assert all(re.fullmatch("[0-9a-f]{12}", i) for i in engine.out("ps", "-q").split())
    assert "virtual" in engine.out("ps", "-s", "--format", "{{.Size}}")


def test_ps_filters(engine: Engine) -> None:
    a = engine.sleeper("-l", "x=1", "-l", "team=a", "-p", "8124:80")
    b = engine.sleeper("-l", "x=2", "--expose", "7000")
    c = engine.up("busybox", "sh", "-c", "exit 3")
    engine.docker("wait", c)
    ident = engine.inspect(a)["Id"]
    image = engine.inspect(a)["Image"]
    for flags, want in [
        (("-f", "label=x"), [a, b]),
        (("-f", "label=x=1"), [a]),
        (("-f", "label=x=1", "-f", "label=team=b"), []),
        (("-f", f"name={b}"), [b]),
        (("-f", f"name=^{b}$"), [b]),
        (("-f", f"id={ident[:20]}"), [a]),
        (("-f", "status=exited"), [c]),
        (("-f", "status=running", "-f", "status=exited"), [a, b, c]),
        (("-a", "-f", "exited=3"), [c]),
        (("-a", "-f", "exited=0"), []),
        (("-a", "-f", f"ancestor={image}"), [a, b, c]),
        (("-a", "-f", "ancestor=busybox"), [a, b, c]),
        (("-a", "-f", f"before={b}"), [a]),
        (("-a", "-f", f"since={b}"), [c]),
        (("-f", "publish=8124"), [a]),
        (("-f", "expose=7000"), [b]),
        (("-f", "network=bridge"), [a, b]),
        (("-f", "network=nosuch"), []),
        (("-f", "health=none"), [a, b]),
    ]:
        assert names(engine, *flags) == sorted(want), flags


def test_ps_volume_filter(engine: Engine) -> None:
    a = engine.sleeper("-v", "/tmp:/here")
    engine.sleeper()
    assert names(engine, "-f", "volume=/here") == [a]


def test_an_unknown_filter_is_an_error(engine: Engine) -> None:
    done = engine.docker("ps", "-f", "shape=round", check=False)
    assert done.returncode == 1
    assert "shape" in done.stderr


def test_top(engine: Engine) -> None:
    name = engine.up("busybox", "sh", "-c", "sleep 4321 & sleep 1234")
    deadline = time.monotonic() + 60
    while "sleep 4321" not in (text := engine.out("top", name)):
        assert time.monotonic() < deadline
    assert re.match(r"UID\s+PID\s+PPID", text)
    assert "sleep 1234" in text
    chosen = engine.out("top", name, "-o", "pid,args").splitlines()
    assert chosen[0].split() == ["PID", "COMMAND"]
    pid = str(engine.state(name)["Pid"])
    assert pid in {line.split()[0] for line in chosen[1:]}


def test_top_of_a_stopped_container_is_an_error(engine: Engine) -> None:
    name = fresh("c")
    engine.docker("create", "--name", name, "busybox")
    assert "is not running" in engine.docker("top", name, check=False).stderr


def test_stats_has_figures(engine: Engine) -> None:
    name = engine.sleeper("-m", "64m")
    row = json.loads(engine.out("stats", "--no-stream", "--format", "json", name))
    assert row["Name"] == name
    assert "/ 64MiB" in row["MemUsage"]
    assert row["PIDs"] == "1"
    assert re.fullmatch(r"\d+\.\d+%", row["CPUPerc"])


def test_stats_counts_network_traffic_and_cpu(engine: Engine) -> None:
    name = engine.up("busybox", "sh", "-c", "while :; do :; done")
    engine.docker("exec", name, "ping", "-c", "3", "-i", "0.2", "172.17.0.1")
    stats = engine.client.api.stats(engine.inspect(name)["Id"], stream=False)
    assert stats["networks"]["eth0"]["rx_packets"] >= 3
    assert (
        stats["cpu_stats"]["cpu_usage"]["total_usage"]
        > stats["precpu_stats"]["cpu_usage"]["total_usage"]
    )
    assert stats["cpu_stats"]["online_cpus"] >= 1
    assert stats["memory_stats"]["usage"] > 0


def test_port(engine: Engine) -> None:
    name = engine.sleeper("-p", "8125:80", "-p", "127.0.0.1:8126:53/udp")
    text = engine.out("port", name)
    assert "80/tcp -> 0.0.0.0:8125" in text
    assert "53/udp -> 127.0.0.1:8126" in text
    assert engine.out("port", name, "53/udp") == "127.0.0.1:8126"
    assert engine.docker("port", name, "99", check=False).returncode == 1


# events


def events(engine: Engine, since: str, *filters: str) -> list[str]:
    """Return `type action` of the events since, in order."""
    flags = [part for f in filters for part in ("-f", f)]
    until = f"{time.time() + 0.05:.3f}"
    text = engine.out(
        "events",
        "--since",
        since,
        "--until",
        until,
        *flags,
        "--format",
        "{{.Type}} {{.Action}}",
        timeout=20,
    )
    return text.splitlines()


def test_order_of_events_in_a_container_s_life(engine: Engine) -> None:
    since = f"{time.time():.9f}"
    name = fresh("ev")
    engine.docker("run", "--rm", "--name", name, "busybox", "sh", "-c", "exit 2", check=False)
    engine.docker("ps")
    seen = events(engine, since, f"container={name}")
    assert [e for e in seen if e.startswith("container")] == [
        "container create",
        "container attach",
        "container start",
        "container die",
        "container destroy",
    ]
    everything = [e for e in events(engine, since) if not e.startswith("image")]
    assert everything == [
        "container create",
        "container attach",
        "network connect",
        "container start",
        "container die",
        "network disconnect",
        "container destroy",
    ]


def test_events_of_stop_exec_rename_and_pause(engine: Engine) -> None:
    name = engine.sleeper()
    since = f"{time.time():.9f}"
    engine.docker("exec", name, "true")
    engine.docker("pause", name)
    engine.docker("unpause", name)
    engine.docker("stop", "-t", "0", name)
    engine.docker("rename", name, f"{name}x")
    engine.docker("rm", f"{name}x")
    seen = [e.removeprefix("container ") for e in events(engine, since, "type=container")]
    short = [e.partition(":")[0] for e in seen]
    for action in (
        "exec_create",
        "exec_start",
        "exec_die",
        "pause",
        "unpause",
        "kill",
        "die",
        "stop",
        "rename",
        "destroy",
    ):
        assert action in short, seen
    assert "exec_create: true" in [e.strip() for e in seen]
    assert short.index("pause") < short.index("unpause") < short.index("die") < short.index("stop")


def test_events_carry_attributes(engine: Engine) -> None:
    since = f"{time.time():.9f}"
    name = engine.up("-l", "shade=dark", "busybox", "sh", "-c", "exit 9")
    engine.docker("wait", name)
    asked = ("events", "--since", since, "-f", "event=die", "--format", "json", "--until")
    deadline = time.monotonic() + 60
    while not (done := engine.out(*asked, f"{time.time():.3f}")):
        assert time.monotonic() < deadline
    event = json.loads(done.splitlines()[-1])
    assert event["Actor"]["ID"] == engine.inspect(name)["Id"]
    attributes = event["Actor"]["Attributes"]
    assert (attributes["name"], attributes["exitCode"]) == (name, "9")
    assert (attributes["image"], attributes["shade"]) == ("busybox", "dark")
    assert event["timeNano"] // 1_000_000_000 == event["time"]


def test_events_come_live(engine: Engine) -> None:
    watch = subprocess.Popen(
        [
            DOCKER,
            "-H",
            engine.host,
            "events",
            "-f",
            "event=start",
            "--format",
            "{{.Actor.Attributes.name}}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=engine.cli_environment(),
    )
    try:
        names = [engine.sleeper()]
        assert watch.stdout is not None
        while not readable(watch.stdout, 0.5):  # until it has subscribed
            names.append(engine.sleeper())
        assert watch.stdout.readline().strip() in names
    finally:
        watch.kill()
        watch.wait()
        assert watch.stdout is not None
        watch.stdout.close()


@unlike_reference("reports the disconnection twice")
def test_network_events(engine: Engine) -> None:
    since = f"{time.time():.9f}"
    net, name = fresh("n"), engine.sleeper()
    engine.docker("network", "create", net)
    engine.docker("network", "connect", net, name)
    engine.docker("network", "disconnect", net, name)
    engine.docker("network", "rm", net)
    seen = events(engine, since, f"network={net}")
    assert seen == ["network create", "network connect", "network disconnect", "network destroy"]


# the engine itself


def test_version_and_info(engine: Engine) -> None:
    version = json.loads(engine.out("version", "--format", "json"))
    assert version["Server"]["Os"] == "linux"
    info = json.loads(engine.out("info", "--format", "json"))
    assert info["Images"] >= 1
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["DockerRootDir"] == str(engine.root)
    assert {"bridge", "host", "null"} <= set(info["Plugins"]["Network"])
    assert info["NCPU"] >= 1
    text = engine.out("info")
    assert "Server Version" in text


def test_counts_in_info_follow(engine: Engine) -> None:
    before = json.loads(engine.out("info", "--format", "json"))
    engine.sleeper()
    engine.docker("create", "busybox")
    after = json.loads(engine.out("info", "--format", "json"))
    assert after["Containers"] - before["Containers"] == 2
    assert after["ContainersRunning"] - before["ContainersRunning"] == 1


@pytest.mark.parametrize(
    "args", [("node", "ls"), ("service", "ls"), ("stack", "ls"), ("secret", "ls")]
)
def test_swarm_commands_answer_as_an_engine_without_swarm(
    engine: Engine, args: tuple[str, ...]
) -> None:
    done = engine.docker(*args, check=False)
    assert done.returncode == 1
    assert "not a swarm manager" in done.stderr


def test_volume_and_plugin_lists_are_empty(engine: Engine) -> None:
    assert engine.out("volume", "ls", "-q") == ""
    assert engine.out("plugin", "ls", "-q") == ""


def test_system_df_and_prune(engine: Engine) -> None:
    name = engine.sleeper()
    engine.docker("kill", name)
    engine.wait_for(name, "Running", False)
    assert "Containers" in engine.out("system", "df")
    start = time.time()
    engine.docker("system", "prune", "-f")
    assert names(engine, "-a") == []
    told = engine.out(
        "events", f"--since={start:.6f}", f"--until={time.time():.6f}", "--filter=event=prune",
        "--format={{.Type}}",
    )  # fmt: skip
    assert sorted(told.split()) == ["builder", "container", "image", "network"]

"""Every flag of every command changes what is asked or printed, or is listed here with a reason.

Each command runs twice against an engine that answers from a table, without the flag and with
it: a flag that changes nothing is read and dropped.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.cli import createflags
from netkit.cli.app import run
from netkit.cli.flags import Flag
from tests.places import ROOT
from tests.unit.netkit.cli import cli_fake_daemon
from tests.unit.netkit.cli.cli_fake_daemon import FakeDaemon, anywhere
from tests.unit.netkit.cli.cli_record import prepare
from tests.unit.netkit.cli.test_help import commands

pytestmark = pytest.mark.slow

# Answers of the engine that docker never asks for.
_RULE = {
    "Id": "3f2a" * 16, "Verdict": "drop", "From": "", "Sources": ["10.0.0.2/32"] * 9, "To": "web",
    "Port": "80/tcp", "Published": False, "Status": "in force",
}  # fmt: skip
_MANIFEST = {"Descriptor": {"mediaType": "m", "digest": "sha256:1", "size": 2}, "Platforms": [],
             "Raw": "e30="}  # fmt: skip
_FOUND = {"name": "x", "description": "d" * 99, "star_count": 1, "is_official": True,
          "is_automated": False}  # fmt: skip
_STEP = {"Action": "create", "Kind": "link", "Resource": "bridge br-1", "Changes": "",
         "Step": "+ bridge br-1"}
MORE: dict[str, Any] = {
    "/images/search": [_FOUND],
    "/netkit/manifests/docker.io/library/busybox:latest": _MANIFEST,
    "/info": {"ID": "x", "Name": "h", "ServerVersion": "1", "Warnings": None},
    "/version": {"Version": "1", "ApiVersion": "1.51", "Components": []},
    "/netkit/firewall/access": [_RULE],
    "/netkit/firewall": {"Enforced": True, "Unread": "", "Containers": []},
    "/netkit/firewall/explain": {"Text": "it arrives", "Explanation": {"verdict": "delivered"}},
    "/netkit/networks/drift": {
        "Findings": [],
        "Drift": [{"Network": "net1", "Container": "web", "Step": "+ route", "Note": "left alone"}],
    },
    "/netkit/networks/plan": {"Busy": False, "Steps": [_STEP]},
    "/netkit/networks/plan/create": {
        "Network": "net1", "Driver": "bridge", "Subnets": [], "Warning": "", "Steps": [_STEP]
    },
    "/netkit/networks/plan/remove": {"Network": "net1", "Driver": "bridge", "Steps": [_STEP]},
    "/netkit/firewall/drift": {"Steps": ["add a rule"], "Enforced": True},
}
# Flags that other commands have, too: one function reads them.
SHARED = {"run": createflags.CREATE, "weave run": createflags.RUN}

TESTS = ROOT / "tests"
# What a command needs besides the flag in question.
ARGUMENTS = {
    "attach": "web", "commit": "web", "cluster join": "10.0.0.1", "cluster leave": "h2",
    "cp": "data.tar web:/tmp",
    "create": "busybox", "diff": "web", "exec": "web true", "export": "web",
    "fw accept": "--to web", "fw drop": "--to web", "fw explain": "web db 80", "history": "busybox",
    "import": "data.tar", "inspect": "web", "kill": "web", "load": "-i data.tar", "logs": "web",
    "net connect": "net1 web", "net create": "net1", "net disconnect": "net1 web",
    "net inspect": "net1", "net prune": "-f", "net rm": "nosuch", "net trace": "web db 80",
    "prune": "-f", "restart": "web", "rm": "web", "rmi": "busybox", "run": "busybox",
    "save": "busybox", "start": "web", "stats": "--no-stream", "stop": "web",
    "system prune": "-f", "update": "web", "container inspect": "web", "image inspect": "busybox",
    "container prune": "-f", "image prune": "-f", "image bootstrap": "busybox",
    "build": "context", "builder prune": "-f",
    "pull": "busybox", "push": "busybox", "search": "x", "manifest inspect": "busybox",
    "volume inspect": "data", "volume prune": "-f", "volume rm": "nosuch",
    "weave connect": "h1", "weave rmpeer": "h1", "weave run": "10.2.1.1/24 busybox",
    "weave attach": "web", "weave dns-add": "web", "weave dns-remove": "web",
}  # fmt: skip
# ... where the flag is about another case than that.
CASES = {
    **{f"{command} force": "" for command in
       ("prune", "container prune", "image prune", "net prune", "volume prune")},
    "start detach-keys": "-a web",
    "fw accept to": "", "fw drop to": "", "load input": "",
    "stats no-stream": "nosuch",
    "net create ip-range": "--subnet 10.0.0.0/16 net1",
    "net create gateway": "--subnet 10.0.0.0/16 net1",
    "net create aux-address": "--subnet 10.0.0.0/16 net1",
    "net create subnet": "net1",
    "net create format": "--dry-run net1", "net rm format": "--dry-run net1",
    "net rm dry-run": "net1",
    **{f"create {flag}": "--network net1 busybox"
       for flag in ("network-alias", "net-alias", "ip", "ip6", "link-local-ip")},
    "login username": "--password secret", "create quiet": "--pull always busybox",
    "cp follow-link": "link web:/tmp",
    "builder prune force": "",
}  # fmt: skip
KINDS = {
    "string": "x", "list": "x", "strings": "x", "int": "7", "bytes": "64m", "uint16": "50",
    "duration": "3s", "decimal": "0.5", "ip": "10.0.0.9", "map": "a=b", "filter": "label=a",
    "network": "net1", "mount": "type=tmpfs,dst=/t", "ulimit": "nofile=5",
}  # fmt: skip
VALUES = {
    "add-host": "a:10.0.0.1", "aux-address": "a=10.0.0.7", "attach": "stdout",
    "blkio-weight-device": "/dev/x:50", "cgroupns": "host", "cidfile": "id",
    "device": "/dev/null", "device-cgroup-rule": "c 10:* rw", "dns": "10.0.0.1",
    "driver-opt": "a=b", "env-file": "env.list", "expose": "80", "format": "{{json .}}",
    "gateway": "10.0.0.3", "input": "data.tar", "ip-range": "10.0.1.0/24", "ip6": "fd00::9",
    "label-file": "labels", "link-local-ip": "169.254.0.9", "mac-address": "02:42:00:00:00:01",
    "memory-swap": "128m", "output": "x.tar", "pid": "host", "platform": "linux/amd64",
    "port": "80/tcp", "publish": "8080:80", "published": "8080/tcp", "pull": "always",
    "cache-from": "a,b", "file": "Dockerfile", "iidfile": "id", "tag": "x",
    "restart": "always", "security-opt": "no-new-privileges", "since": "10m",
    "storage-opt": "size=1g", "subnet": "10.0.0.0/24", "sysctl": "net.ipv4.ip_forward=1",
    "tail": "3", "type": "network", "until": "1m", "userns": "host", "uts": "host",
    "password-file": "env.list", "mtu": "1400", "dns-domain": "weave.local",
    "via": "h2=tcp://10.0.0.2:2375", "detach-keys": "ctrl-x", "signal": "HUP",
    **{f"device-{what}": "/dev/x:1" for what in
       ("read-bps", "read-iops", "write-bps", "write-iops")},
}  # fmt: skip
OF_COMMAND = {
    "weave report format": "{{json .}}",
    "fw show format": "json",
    "fw explain format": "json",
    "net check format": "json", "net plan format": "json",
    "net create format": "json", "net rm format": "json",
    "net trace format": "json",
    "save format": "oci",
    "cluster status format": "json",
    "cluster init address": "10.0.0.7",
    "cluster join address": "10.0.0.7",
    "cluster leave force": "",
    "ovn up address": "10.0.0.7",
    "ovn up join": "10.0.0.1",
    "ovn up insecure": "",
    "ovn down force": "",
    "ovn status format": "json",
}
# What cannot be seen in one request and its answer: the test that holds it.
ELSEWHERE = {
    **{
        f"capture {flag}": f"labs/test_capture.py::{test}"
        for flag, test in {
            "lab": "test_a_link_is_its_ends_and_a_container_its_interfaces",
            "name": "test_a_link_is_its_ends_and_a_container_its_interfaces",
            "write": "test_a_file_has_what_net_trace_says_of_its_flows",
            "trace": "test_a_file_has_what_net_trace_says_of_its_flows",
            "while": "test_a_published_ports_packet_is_shown_before_and_after_dnat",
            "count": "test_it_ends_after_packets_a_time_or_a_size",
            "duration": "test_it_ends_after_packets_a_time_or_a_size",
            "max-size": "test_it_ends_after_packets_a_time_or_a_size",
            "snaplen": "test_it_ends_after_packets_a_time_or_a_size",
            "no-promiscuous-mode": "test_the_interface_is_promiscuous_while_it_is_captured",
        }.items()
    },
    "image bootstrap quiet": "unit/netkit/cli/test_bootstrap.py::test_quiet_says_the_id_only",
    "run sig-proxy": "engine/test_cli_run.py::test_without_proxy_a_signal_ends_the_client_only",
    "attach sig-proxy": "engine/test_cli_run.py::test_without_proxy_a_signal_ends_the_client_only",
    "net trace format": "engine/test_trace.py::test_it_says_the_same_with_every_firewall",
    "net trace size": "engine/test_trace_weave.py::test_what_does_not_fit_is_named",
    "net trace via": "engine/test_trace.py::test_an_engine_that_cannot_be_asked_knows_no_container",
}
_PIPE = "progress is shown on terminals only"
WITHOUT_EFFECT = {
    "cp quiet": _PIPE, "load quiet": _PIPE,
    "weave launch dns-domain": "names are in weave.local; another domain is refused",
}  # fmt: skip
# They ask no engine, or serve until Ctrl-C: tests/labs, tests/unit/netkit/ui, test_cli_help.py
LOCAL = ("lab", "help", "completion", "ui")


def flags() -> Iterator[tuple[str, Flag]]:
    seen: set[int] = set()
    for words, command in sorted(commands(), key=lambda each: len(each[0].split())):
        if words.split()[0] not in LOCAL and id(command) not in seen:
            seen.add(id(command))
            known = SHARED.get(words, ())
            yield from ((words, flag) for flag in command.flags if flag not in known)


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with anywhere() as server:
        yield server


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    (tmp_path / "link").symlink_to("data.tar")
    (tmp_path / "Dockerfile").write_text("FROM other")
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM busybox")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))  # no answer to questions
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("DOCKER_HOST", "NETKIT_HOST"):
        monkeypatch.delenv(name, raising=False)
    known, changed = cli_fake_daemon._get, cli_fake_daemon._change
    made = {"Id": "3f2a" * 16, "Warnings": []}

    def get(path: str, query: dict[str, list[str]], now: float) -> Any:
        return MORE[path] if path in MORE else known(path, query, now)

    monkeypatch.setattr(cli_fake_daemon, "_get", get)
    monkeypatch.setattr(
        cli_fake_daemon, "_change",
        lambda method, path: (
            MORE[path] if path.endswith("/plan/create")
            else made if path.startswith("/netkit") else changed(method, path)
        ),
    )  # fmt: skip
    return tmp_path


def outcome(line: str, daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> tuple[Any, ...]:
    """Exit code, output, errors, requests, and files of the folder."""
    daemon.record.asked.clear()
    code = run(["-H", f"unix://{daemon.server_address}", *shlex.split(line)])
    out, err = capfd.readouterr()
    files = sorted(path.name for path in Path().iterdir())
    return code, out, err, daemon.record.rows(), files


@pytest.mark.parametrize(
    ("words", "flag"), [*flags()], ids=lambda each: getattr(each, "name", each)
)
def test_a_flag_makes_a_difference(
    words: str, flag: Flag, daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    name = f"{words} {flag.name}"
    arguments = CASES.get(name, ARGUMENTS.get(words, ""))
    given = f"--{flag.name}=false" if flag.default is True else f"--{flag.name}"
    if flag.kind != "bool":
        text = OF_COMMAND.get(name) or VALUES.get(flag.name) or KINDS[flag.kind]
        given += f"={shlex.quote(text)}"
    without = outcome(f"{words} {arguments}", daemon, capfd)
    having = outcome(f"{words} {given} {arguments}", daemon, capfd)
    if having[0] not in (0, without[0]) and not having[3]:  # refused
        assert having[2].count("\n") == 1, having
        assert flag.name in having[2]
    if name in ELSEWHERE:
        file, _, test = ELSEWHERE[name].partition("::")
        assert f"def {test}(" in (TESTS / file).read_text()
        return
    assert (having == without) == (name in WITHOUT_EFFECT), (given, having)

"""Templates and JSON through `netkit --format`, beside the stock docker CLI on the same engine."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from netkit.cli.app import run
from tests.engine.daemon import Engine, netkit_only

HEALTH = ("--health-cmd", 'true && echo "<ok>"', "--health-interval", "90s",
          "--health-timeout", "1500ms", "--health-start-period", "2m")  # fmt: skip
RICH = (
    "--name", "nk-web", "--network", "nk-back", "-p", "127.0.0.1:18085:80", "-e", "A=<b>&c",
    "--label", "l=<m>", "-v", "nk-data:/d", "-v", "/usr:/host:ro", "--tmpfs", "/t:size=1m",
    "--memory", "64m", "--cpus", "1.5", "--ulimit", "nofile=64:128", "--restart", "on-failure:3",
    "--device", "/dev/null", "--log-opt", "max-size=1m", "--add-host", "a:1.2.3.4",
    "--stop-timeout", "0", "--init=false", *HEALTH,
)  # fmt: skip

CONTAINER = (
    "{{.Config.Healthcheck}} {{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck}}",
    "{{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}} {{.HostConfig.PortBindings}}",
    "{{.NetworkSettings.Ports}} {{json .NetworkSettings}}",
    '{{index .NetworkSettings.Networks "nk-back"}} {{.NetworkSettings.Bridge}}',
    "{{.Mounts}} {{json .Mounts}}",
    "{{.Config.Env}} {{json .Config.Env}} {{.Config.Labels}} {{json .Config.Labels}}",
    "{{.HostConfig.Ulimits}} {{json .HostConfig.Ulimits}} {{.HostConfig.Devices}}",
    "{{.HostConfig.Tmpfs}} {{.HostConfig.Sysctls}} {{.GraphDriver}} {{.Created}}",
    "{{.HostConfig.OomKillDisable}} {{.HostConfig.Init}} {{.HostConfig.MemorySwappiness}}",
    "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.Id}}",
    "{{.HostConfig.NanoCPUs}} {{.HostConfig.Memory}} {{.ID}}",
    "{{json .}}", "{{json .HostConfig}}", "{{json .Config}}", "{{json .State.Health}}", "json", "",
    "{{.Config.Volumes}} {{json .Config.Volumes}} {{.Config.ExposedPorts}} {{.SizeRw}}",
    "{{range .Mounts}}{{.}}|{{.Source}} {{.Type}} {{.RW}}{{println}}{{end}}",
    "{{range $k,$v := .NetworkSettings.Ports}}{{$k}}={{$v}}{{(index $v 0).HostPort}};{{end}}",
    '{{printf "%+v %d" .HostConfig.RestartPolicy .Config.Healthcheck.Interval}}',
    '{{html "<a>"}} {{js "<a>"}} {{urlquery "a b"}} {{slice .Name 1}} {{len .Config.Env}}',
    '{{.Config.Labels.nope}} {{index .Config.Labels "nope"}} {{.Config.Labels.l}}',
    "{{.Config.StopTimeout}} {{.HostConfig.Init}}",
    "{{.Nope}}", "{{.State.Nope}}", "{{if .State.Nope}}x{{end}}", "{{.Name", "{{nofunction}}",
)  # fmt: skip
LINES = [
    *([("inspect", "-f", each, "nk-web") for each in CONTAINER]),
    ("inspect", "nk-web", "nk-idle", "nk-nosuch"),
    ("inspect", "-f", "{{.Name}}", "nk-web", "nk-nosuch", "nk-idle"),
    ("inspect", "-f", "json", "nk-nosuch"),
    ("inspect", "-f", "{{.State}} {{if .State.Health}}x{{else}}none{{end}}", "nk-idle"),
    ("inspect", "-f", "{{.State.Health.Status}}", "nk-idle"),
    ("inspect", "-s", "-f", "{{.SizeRootFs}}", "nk-idle"),
    ("image", "inspect", "-f", "{{.Config}} {{.RootFS}} {{.Metadata}} {{.Created}}", "busybox"),
    ("image", "inspect", "-f", "{{json .}}", "busybox"),
    ("image", "inspect", "-f", "json", "busybox"),
    ("network", "inspect", "-f", "{{.}}", "nk-back"),
    ("network", "inspect", "-f", "{{json .}} {{.IPAM}} {{json .IPAM}}", "nk-back"),
    ("network", "inspect", "nk-back"),
    ("volume", "inspect", "-f", "{{.}} {{json .}} {{.Status}} {{.UsageData}}", "nk-data"),
    ("volume", "inspect", "nk-data"),
    ("volume", "inspect", "-f", "json", "nk-data"),
    ("inspect", "nk-data"),
    ("version", "-f", "{{.Server}} {{json .Server}} {{.Client.Context}}"),
    ("info", "-f", "{{.ID}} {{.DriverStatus}} {{.Plugins}} {{.Swarm}} {{json .Swarm}}"),
    ("info", "-f", "{{.Runtimes}} {{.SecurityOptions}} {{.RuncCommit}} {{.DefaultAddressPools}}"),
    ("info", "-f", "{{json .RegistryConfig}} [{{.HTTPProxy}}{{.HTTPSProxy}}{{.NoProxy}}]"),
    ("ps", "-a", "--format", "json"),
    ("ps", "-a", "--format", "{{json .}}"),
    ("ps", "-a", "--format", "raw"),
    ("ps", "-a", "-q", "--format", "raw"),
    ("ps", "-a", "--format", '{{.Label "l"}}|{{.Label "no"}}|{{.Platform}}|{{json .Command}}'),
    ("ps", "-a", "--format", "table {{upper .Names}}\\t{{json .Image}}"),
    ("ps", "-a", "--format", "{{.Nope}}"),
    ("images", "--format", "raw"),
    ("images", "--digests", "--format", "raw"),
    ("images", "--format", "{{.ID}} {{json .Digest}} {{.Size}} {{.VirtualSize}} {{.SharedSize}}"),
    ("volume", "ls", "--format", "json"),
    ("volume", "ls", "--format", "raw"),
    ("network", "ls", "--format", "json"),
    ("network", "ls", "--format", "raw"),
    ("system", "df", "--format", "json"),
    ("system", "df", "--format", "raw"),
    ("system", "df", "-v", "--format", "json"),
    ("system", "df", "-v", "--format", "{{range .Images}}{{.ID}} {{.UniqueSize}};{{end}}x"),
    ("history", "--format", "json", "busybox"),
    ("events", "--since", "1h", "--until", "0s", "--filter", "volume=nk-data", "--format", "json"),
    ("events", "--since", "1h", "--until", "0s", "--filter", "volume=nk-data",
     "--format", "{{.}} {{.Actor}} {{json .Actor}} {{.Time}}"),
    ("events", "--since", "1h", "--until", "0s", "--filter", "volume=nk-data",
     "--format", "{{.Nope}}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(session_engine: Engine) -> Iterator[Engine]:
    """The engine with one container that has many options, and one that has none."""
    engine = session_engine
    engine.clear()
    engine.docker("network", "create", "--subnet", "10.99.7.0/24", "--label", "a=<&>", "nk-back")
    engine.docker("volume", "create", "--label", "a=<x>", "-o", "type=tmpfs", "-o", "device=tmpfs",
                  "-o", "o=size=10m,uid=1000", "nk-data")  # fmt: skip
    engine.docker("run", "-d", *RICH, "busybox", "sleep", "100000")
    engine.docker("create", "--name", "nk-idle", "busybox", "sh", "-c", "echo <a>")
    engine.wait_for("nk-web", "Health.Status", "healthy")
    yield engine
    engine.clear()


@netkit_only("it is about netkit's client")
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_templates_print_what_dockers_client_prints(
    line: tuple[str, ...], told: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = told.docker(*line, check=False)
    capfd.readouterr()
    code = run(["-H", told.host, *line])
    out, err = capfd.readouterr()
    assert (code, _timeless(out)) == (theirs.returncode, _timeless(theirs.stdout))
    assert bool(err) == bool(theirs.stderr)
    if not any("{{" in word for word in line):  # of a bad template we say more
        assert err == theirs.stderr


@netkit_only("it is about netkit's client")
def test_version_shows_of_the_server_what_dockers_client_shows(
    told: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = told.out("version").partition("Server:")[2]
    assert run(["-H", told.host, "version"]) == 0
    assert capfd.readouterr().out.partition("Server:")[2].strip() == theirs.strip()


def _timeless(text: str) -> str:
    """Without the word for the seconds that passed between the two."""
    return re.sub(r"(About a|Less than a|\d+) (second|minute)s?", "some time", text)

"""netkitd's own options: listeners, TLS, labels, the configuration file, the default network."""

from __future__ import annotations

import datetime
import grp
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.filetree.spread import spread
from tests.engine import wire
from tests.engine.daemon import DOCKER, Engine, netkit_only, netkitd
from tests.engine.wire import Wire
from tests.unit.runtime.daemon.test_main import LATER

pytestmark = netkit_only("these are netkitd's own flags and promises")

Start = Callable[..., Engine]


@pytest.fixture
def start(own_wire: Wire) -> Iterator[Start]:
    """Start engines with the flags given, one after the other."""
    made: list[Engine] = []

    def begin(*flags: str) -> Engine:
        engine = Engine(own_wire, flags=flags)
        made.append(engine)
        engine.start()
        return engine

    yield begin
    for engine in made:
        engine.destroy()


@pytest.fixture
def own_wire() -> Iterator[Wire]:
    own = Wire.lay()
    yield own
    own.remove()


def test_a_daemon_that_runs_containers_imports_what_that_takes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    engine = start()
    engine.load_image()
    engine.docker("network", "create", "net")
    engine.run("--network", "net", "-p", "127.0.0.1::80", "busybox", "true")
    for words in (("ps", "-a"), ("images",), ("network", "ls"), ("version",), ("info",)):
        engine.docker(*words)
    log = engine.log.read_text()
    assert "| " in log, "nothing was recorded"
    imported = {line.rpartition("|")[2].strip() for line in log.splitlines()}
    assert "runtime.network.networks" in imported
    assert not {name for name in imported if name.startswith(LATER)}
    engine.netkit("fw", "show")
    assert "runtime.network.firewall" in engine.log.read_text()


def refused(own: Wire, tmp_path: Path, *flags: str) -> str:
    """Return the error of a netkitd that refuses to start with these flags."""
    done = subprocess.run(
        wire.inside(
            own.host,
            *netkitd(),
            "--root",
            str(tmp_path / "r"),
            "--run",
            str(tmp_path / "s"),
            *flags,
        ),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def ask(
    engine: Engine, host: str, *flags: str, netns: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        wire.inside(
            netns or engine.netns,
            DOCKER,
            "-H",
            host,
            *flags,
            "version",
            "--format",
            "{{.Server.Version}}",
        ),
        capture_output=True,
        text=True,
        timeout=20,
        env=engine.cli_environment(),
        check=False,
    )


def test_several_listeners_at_once(start: Start) -> None:
    engine = start("-H", "tcp://127.0.0.1:2375")
    second = f"{engine.folder}/second.sock"
    assert ask(engine, engine.host).returncode == 0
    assert ask(engine, "tcp://127.0.0.1:2375").returncode == 0
    engine.stop()
    engine.flags = ("-H", f"unix://{second}")
    engine.restart()
    assert ask(engine, f"unix://{second}").returncode == 0


def test_plain_tcp_off_loopback_needs_a_word(start: Start, own_wire: Wire, tmp_path: Path) -> None:
    output = refused(own_wire, tmp_path, "-H", "tcp://0.0.0.0:2375")
    assert "--insecure-tcp" in output
    assert "API is accessible" not in output
    engine = start("-H", "tcp://0.0.0.0:2375", "--insecure-tcp")
    assert ask(engine, f"tcp://{wire.HOST}:2375", netns=own_wire.neighbour).returncode == 0
    exposed = "API is accessible on tcp://0.0.0.0:2375 without encryption"
    assert f"WARNING netkit.daemon: {exposed}" in engine.log_tail()
    assert exposed in engine.docker("info").stderr


def test_the_socket_is_for_root_and_its_group(start: Start) -> None:
    engine = start()
    info = engine.socket.stat()
    assert stat.S_IMODE(info.st_mode) == 0o660
    assert info.st_uid == 0
    try:
        group = grp.getgrnam("netkit").gr_gid
    except KeyError:
        group = 0
    assert info.st_gid == group


def test_labels_are_in_info(start: Start) -> None:
    engine = start("--label", "rack=7", "--label", "zone=b")
    assert set(json.loads(engine.out("info", "--format", "json"))["Labels"]) == {"rack=7", "zone=b"}


def test_the_configuration_file(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"labels": ["from=file"], "bip": "10.91.0.1/24", "mtu": 1300}))
    engine = start("--config", str(file))
    engine.load_image()
    assert json.loads(engine.out("info", "--format", "json"))["Labels"] == ["from=file"]
    name = engine.sleeper()
    assert engine.address(name).startswith("10.91.0.")
    assert engine.out("exec", name, "cat", "/sys/class/net/eth0/mtu") == "1300"


def test_an_unknown_key_or_flag_is_an_error_that_names_it(own_wire: Wire, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"colour": "red"}')
    assert "colour" in refused(own_wire, tmp_path, "--config", str(file))
    assert "--shape" in refused(own_wire, tmp_path, "--shape", "round")


def test_a_key_in_both_places_is_refused(own_wire: Wire, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"mtu": 1300}')
    assert "mtu" in refused(own_wire, tmp_path, "--config", str(file), "--mtu", "1400")


def test_one_daemon_per_run_directory(start: Start, own_wire: Wire) -> None:
    engine = start()
    done = subprocess.run(
        wire.inside(
            own_wire.host,
            *netkitd(),
            "--root",
            str(engine.root),
            "--run",
            str(engine.rundir),
            "-H",
            f"unix://{engine.folder}/other.sock",
        ),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert str(engine.rundir) in done.stderr
    assert engine.ready()


# What systemd does: the listener becomes descriptor 3, LISTEN_PID the daemon's own.
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_socket_activation(own_wire: Wire) -> None:
    engine = Engine(own_wire)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(engine.socket))
        listener.listen(16)
        flags = ("--root", str(engine.root), "--run", str(engine.rundir), "-H", "fd://")
        command = wire.inside(own_wire.host, *netkitd(), *flags)
        activate = (sys.executable, "-c", _ACTIVATE, str(listener.fileno()))
        daemon = subprocess.Popen([*activate, *command], pass_fds=[listener.fileno()])
        try:
            deadline = time.monotonic() + 15
            while not engine.ready():
                assert daemon.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            daemon.terminate()
            code = daemon.wait(20)
            engine.destroy()
        assert code == 0


def test_a_default_bridge_that_separates_its_containers(start: Start) -> None:
    engine = start("--icc=false")
    engine.load_image()
    web = engine.up("busybox", "httpd", "-f", "-h", "/www")
    client = engine.sleeper()
    url = f"http://{engine.address(web)}/"
    assert wire.connected(engine.netns, url)
    assert (
        engine.docker("exec", client, "timeout", "2", "wget", "-qO-", url, check=False).returncode
        != 0
    )


# TLS


class Authority:
    """A certificate authority of the test's own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key, ca=True)
        self._write("ca", self.certificate, None)

    def issue(self, name: str, *, server: bool) -> None:
        """name.pem and name-key.pem"""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(name, self._sign(subject, key, ca=False, server=server), key)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool, server: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if server:
            names = [x509.IPAddress(ip_address(a)) for a in (wire.HOST, "127.0.0.1")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None
    ) -> None:
        (self.folder / f"{name}.pem").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
        if key:
            (self.folder / f"{name}-key.pem").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )

    def flags(self, name: str) -> tuple[str, ...]:
        f = self.folder
        return (
            "--tlsverify",
            "--tlscacert",
            f"{f}/ca.pem",
            "--tlscert",
            f"{f}/{name}.pem",
            "--tlskey",
            f"{f}/{name}-key.pem",
        )


def test_tls_accepts_only_clients_with_a_certificate(
    start: Start, own_wire: Wire, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    authority, stranger = Authority(ours), Authority(theirs)
    authority.issue("server", server=True)
    authority.issue("client", server=False)
    stranger.issue("client", server=False)
    engine = start("-H", "tcp://0.0.0.0:2376", *authority.flags("server"))
    host, lan = f"tcp://{wire.HOST}:2376", own_wire.neighbour
    good = ask(engine, host, *authority.flags("client"), netns=lan)
    assert good.returncode == 0, good.stderr
    assert ask(engine, host, netns=lan).returncode != 0
    strangers = (
        "--tlsverify",
        "--tlscacert",
        f"{ours}/ca.pem",
        "--tlscert",
        f"{theirs}/client.pem",
        "--tlskey",
        f"{theirs}/client-key.pem",
    )
    assert ask(engine, host, *strangers, netns=lan).returncode != 0
    assert ask(engine, engine.host).returncode == 0  # the unix socket needs none


def test_run_works_through_tls(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", server=True)
    authority.issue("client", server=False)
    engine = start("-H", "tcp://127.0.0.1:2376", *authority.flags("server"))
    engine.load_image()
    done = subprocess.run(
        wire.inside(
            engine.netns,
            DOCKER,
            "-H",
            "tcp://127.0.0.1:2376",
            *authority.flags("client"),
            "run",
            "--rm",
            "-i",
            "busybox",
            "sh",
            "-c",
            "cat; exit 3",
        ),
        input="through tls\n",
        capture_output=True,
        text=True,
        timeout=30,
        env=engine.cli_environment(),
        check=False,
    )
    assert (done.stdout, done.returncode) == ("through tls\n", 3), done.stderr


def test_state_is_private(start: Start) -> None:
    """Only root can access a container's files (CVE-2021-41091)."""
    engine = start()
    engine.load_image()
    engine.sleeper()
    for top in (engine.root, engine.rundir):
        for entry in os.scandir(top):
            if entry.is_dir():
                assert stat.S_IMODE(entry.stat().st_mode) & 0o007 == 0, entry.path


def test_directories_of_containers_are_marked_as_unrelated(engine: Engine, tmp_path: Path) -> None:
    marked = [
        *(
            engine.root / name
            for name in ("containers", "images/layers/new", "snapshots", "volumes")
        ),
        *(engine.rundir / name for name in ("bundles", "rootfs", "runtime")),
    ]
    spread(tried := tmp_path)
    shown = [_attributes(folder) for folder in (tried, *marked)]
    if "T" not in shown[0]:
        pytest.skip("the file system does not know the mark, or lsattr is not installed")
    assert all("T" in each for each in shown), shown


def _attributes(folder: Path) -> str:
    """As lsattr(1) shows them; "" where it cannot."""
    with suppress(FileNotFoundError):
        return subprocess.run(["lsattr", "-d", folder], capture_output=True, text=True,
                              check=False).stdout.partition(" ")[0]  # fmt: skip
    return ""


def test_keys_of_dockers_configuration_file(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    document = {
        "registry-mirrors": ["https://registry.docker-cn.com"],
        "insecure-registries": ["10.0.0.0/8", "registry.example:5000"],
        "live-restore": True,
        "max-concurrent-downloads": 3,
        "max-download-attempts": 2,
        "proxies": {"http-proxy": "http://proxy.example:3128"},
        "log-opts": {"max-size": "1m"},
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 333, "Hard": 444}},
        "default-shm-size": "1m",
        "host-gateway-ip": "192.0.2.1",
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}},
    }
    file.write_text(json.dumps(document))
    engine = start("--config-file", str(file))
    info = engine.client.api.info()
    assert info["RegistryConfig"]["Mirrors"] == ["https://registry.docker-cn.com/"]
    assert "10.0.0.0/8" in info["RegistryConfig"]["InsecureRegistryCIDRs"]
    output = " ".join(info["Warnings"])
    assert "http-proxy has no effect" in output
    assert not [key for key in ("live-restore", "mirrors", "concurrent") if key in output]

    engine.load_image()
    asked = "ulimit -n; df -k /dev/shm | tail -1; grep gate /etc/hosts"
    gate = ("--add-host", "gate:host-gateway")
    output = engine.out("run", "--name", "c1", *gate, "busybox", "sh", "-c", asked)
    assert output.split()[0] == "333"
    assert " 1024 " in output
    assert "192.0.2.1\tgate" in output
    assert engine.inspect("c1")["HostConfig"]["LogConfig"]["Config"] == {"max-size": "1m"}
    engine.out("network", "create", "lane")
    mtu = ("--network", "lane", "busybox", "cat", "/sys/class/net/eth0/mtu")
    assert engine.run(*mtu) == "1400"


def test_validate_says_what_is_wrong_and_starts_nothing(own_wire: Wire, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"

    def validate(document: object) -> tuple[int, str]:
        file.write_text(json.dumps(document))
        done = subprocess.run(
            [*netkitd(), "--validate", "--config-file", str(file), "--root", f"{tmp_path}/root"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        return done.returncode, done.stderr

    assert validate({"mtu": 1400}) == (0, "configuration OK\n")
    code, text = validate({"userns-remap": "default"})
    assert code == 1
    assert text.startswith(f"netkitd: {file}: userns-remap default is refused: ")
    assert not (tmp_path / "root").exists()

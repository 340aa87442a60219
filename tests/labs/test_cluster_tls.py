"""A cluster over a network that is not trusted: only hosts with certificates are let in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.cluster.tls import FLAGS, Certificates
from netkit.errors import KernelError
from netkit.lab import building
from netkit.lab.model import Places
from netkit.lab.running import RunningLab
from netkit.testing.waiting import eventually
from tests.authority import Authority
from tests.labs.conftest import traces

CLIENTS, PEERS = 6640, 6644  # ports
HOST = """
  h{n}:
    interfaces:
      eth0: {{segment: lan, address: 10.0.0.{n}/24}}
    daemon: {flags}
    {more}
"""
# A connection as some host would make it; what comes of it is printed.
KNOCK = """
import socket, ssl, sys
address, port, ca, cert, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.load_verify_locations(ca)
if cert:
    context.load_cert_chain(cert, key)
sock = socket.create_connection((address, int(port)), 20)
try:
    tls = context.wrap_socket(sock)
    tls.settimeout(2)
    try:
        answer = tls.recv(1)  # a server sends its name to its peers unasked
    except TimeoutError:
        answer = b"nothing until it is asked"
    ((_, name),), = tls.getpeercert()["subject"]
    print("in:" if answer else "closed:", name)
except (ssl.SSLError, ConnectionError):
    print("refused")
"""


def flags(files: Certificates) -> list[str]:
    return [f"{f}={p}" for f, p in zip(FLAGS, (files.ca, files.cert, files.key), strict=True)]


class Town:
    """h1 and h2 have certificates of one CA, h3 of another, and h4 has none."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.foreign = Authority(folder / "ours"), Authority(folder / "others")
        self.h1, self.h2, self.spare = (self.ours.host(n) for n in ("h1", "h2", "spare"))
        self.stranger = self.foreign.host("h3")
        home = folder / f"tls-{folder.name[-6:]}"
        home.mkdir()
        given = (flags(self.h1), flags(self.h2), flags(self.stranger), [])
        hosts = "".join(
            HOST.format(n=n, flags=json.dumps(f), more="ovs: true" if n < 3 else "")
            for n, f in enumerate(given, 1)
        )
        (home / "lab.yml").write_text(f"underlay:\n  lan: {{}}\nhosts:{hosts}")
        self.lab = RunningLab(str(home))

    def netkit(self, host: str, *argv: str) -> str:
        return self.lab.netkit(host, *argv)

    def restart(self, host: str, *argv: str) -> None:
        """Restart its netkitd with other flags."""
        daemon = self.lab[host].daemon
        daemon.kill()
        switch = [f"--ovs-db=unix:{self.lab.places.ovs(host)}/db.sock"] if host < "h3" else []
        daemon.ensure([*argv, *switch])

    def knock(
        self, host: str, port: int, ca: Path, files: Certificates | None, at: str = "10.0.0.1"
    ) -> str:
        """Return the server's answer to a client of `host`: "refused", or the name it presents."""
        cert, key = (str(files.cert), str(files.key)) if files else ("", "")
        done = subprocess.run(
            ["ip", "netns", "exec", self.lab.places.namespace(host), sys.executable, "-c", KNOCK,
             at, str(port), str(ca), cert, key],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout.strip()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("tls"))
    try:
        town.lab.up()
        town.netkit("h1", "cluster", "init", "--address", "10.0.0.1")
        yield town
    finally:
        building.down(Places(lab=town.lab.name))
    assert traces(town.lab.name) == []


def refused(town: Town, host: str, words: str) -> None:
    """Try to join; it must fail soon with these words, and leave nothing behind."""
    begin = time.monotonic()
    with pytest.raises(KernelError, match=words):
        town.netkit(host, "cluster", "join", "10.0.0.1")
    assert time.monotonic() - begin < 20  # and not the half minute that joining is given
    assert "in no cluster" in town.netkit(host, "cluster", "status")
    status = town.netkit("h1", "cluster", "status")
    assert not {"10.0.0.3", "10.0.0.4"} & {*status.split()}


def test_hosts_of_one_ca_share_networks(town: Town) -> None:
    town.netkit("h2", "cluster", "join", "10.0.0.1")
    for host in ("h1", "h2"):
        eventually(lambda host=host: "10.0.0.2" in town.netkit(host, "cluster", "status"))
        status = town.netkit(host, "cluster", "status")
        assert "TLS:       yes" in status
        assert "Problem" not in status
    town.netkit("h1", "net", "create", "--scope", "global", "-d", "ovs", "wide")
    eventually(lambda: "wide" in town.netkit("h2", "net", "ls", "--format", "{{.Name}}").split())
    town.netkit("h1", "net", "rm", "wide")
    eventually(lambda: "wide" not in town.netkit("h2", "net", "ls", "--format", "{{.Name}}"))


@pytest.mark.parametrize("port", [CLIENTS, PEERS])
def test_both_ports_are_open_to_our_certificates_only(town: Town, port: int) -> None:
    assert town.knock("h4", port, town.ours.ca, town.spare) == "in: h1"
    assert town.knock("h4", port, town.ours.ca, None) == "refused"
    assert town.knock("h4", port, town.ours.ca, town.stranger) == "refused"
    assert (
        town.knock("h4", port, town.foreign.ca, town.spare) == "refused"
    )  # by the client, that is


def test_a_stranger_cannot_join_and_gets_the_reason(town: Town) -> None:
    refused(town, "h3", r"10\.0\.0\.1:6640 shows a certificate that --cluster-tls-ca .* not vouch")
    refused(town, "h4", r"10\.0\.0\.1:6640 wants TLS.*--cluster-tls-ca")
    half = Certificates(ca=town.ours.ca, cert=town.stranger.cert, key=town.stranger.key)
    town.restart("h3", *flags(half))  # it trusts us, we do not trust it
    refused(town, "h3", r"h3\.pem is of no use with --cluster-tls-ca .*ca\.pem")


def test_a_client_that_is_given_servers_needs_a_certificate_too(town: Town) -> None:
    cluster = "--cluster=ovsdb:ssl:10.0.0.1:6640"
    town.restart("h3", cluster, *flags(town.stranger))
    eventually(lambda: "Problem" in town.netkit("h3", "cluster", "status"))
    with pytest.raises(KernelError, match=r"ssl:10\.0\.0\.1:6640 \(.*certificate.*\)"):
        town.netkit("h3", "net", "create", "--scope", "global", "-d", "ovs", "never")
    half = Certificates(ca=town.ours.ca, cert=town.stranger.cert, key=town.stranger.key)
    town.restart("h3", cluster, *flags(half))
    eventually(lambda: "unknown ca" in town.netkit("h3", "cluster", "status"))
    assert "10.0.0.3" not in town.netkit("h1", "cluster", "status")
    town.restart("h3", cluster, *flags(town.ours.host("h3")))
    eventually(lambda: "10.0.0.3" in town.netkit("h1", "cluster", "status"))
    town.netkit("h1", "cluster", "leave", "10.0.0.3")
    town.restart("h3")


def test_options_that_contradict_are_refused_at_the_start(town: Town) -> None:
    daemon = town.lab.h4.daemon
    for given, words in (
        (flags(town.h1)[:2], r"give all of them; --cluster-tls-key is missing"),
        (
            ["--cluster=ovsdb:ssl:10.0.0.1:6640"],
            r"must be tcp:10\.0\.0\.1:6640, because .* missing",
        ),
        (
            ["--cluster=ovsdb:tcp:10.0.0.1:6640", *flags(town.spare)],
            r"must be ssl:10\.0\.0\.1:6640, because .* are given",
        ),
    ):
        with pytest.raises(KernelError, match=words):
            town.restart("h4", *given)
    daemon.ensure([])
    with pytest.raises(KernelError, match="was made with TLS, and netkitd was started without"):
        town.restart("h2")
    town.restart("h2", *flags(town.h2))


def test_without_most_servers_what_needs_them_says_so(town: Town) -> None:
    town.netkit("h2", "net", "create", "--scope", "global", "-d", "ovs", "kept")
    town.netkit("h2", "net", "create", "idle")
    pid = int((Path(town.lab.places.run("h1")) / "cluster" / "ovsdb-server.pid").read_text())
    os.kill(pid, signal.SIGSTOP)  # one of two
    try:
        assert "idle" in town.netkit("h2", "net", "prune", "-f")
        listed = town.netkit("h2", "net", "ls", "--format", "{{.Name}}").split()
        assert "kept" in listed
        assert "idle" not in listed
        eventually(lambda: "none: most servers" in town.netkit("h2", "cluster", "status"))
        with pytest.raises(KernelError, match="most servers of the cluster do not answer"):
            town.netkit("h2", "cluster", "leave")
        town.restart("h4", *flags(town.spare))
        with pytest.raises(KernelError, match=r"10\.0\.0\.2:6640 has no connection to most"):
            town.netkit("h4", "cluster", "join", "10.0.0.2")
    finally:
        os.kill(pid, signal.SIGCONT)
    town.restart("h4")
    eventually(lambda: "Answers:   yes" in town.netkit("h2", "cluster", "status"))
    # A request without an answer may have been carried out since, as the refusal says.

    def removed() -> bool:
        town.lab.netkit("h2", "net", "rm", "kept", check=False)
        return "kept" not in town.netkit("h2", "net", "ls", "--format", "{{.Name}}").split()

    eventually(removed)


def test_certificates_are_replaced_while_the_cluster_runs(town: Town) -> None:
    """Runs last: h2 leaves the cluster."""

    def shown() -> str:
        return town.knock("h4", CLIENTS, town.ours.ca, town.spare, "10.0.0.2")

    assert shown() == "in: h2"
    fresh = town.ours.host("fresh")
    fresh.key.replace(town.h2.key)
    fresh.cert.replace(town.h2.cert)
    eventually(lambda: shown() == "in: fresh")
    town.restart("h2", *flags(town.ours.host("elsewhere")))  # other files: the server starts anew
    eventually(lambda: shown() == "in: elsewhere")
    eventually(lambda: "Answers:   yes" in town.netkit("h2", "cluster", "status"))
    town.restart("h2", *flags(town.ours.host("again")))
    town.netkit("h2", "cluster", "leave")  # its server has no leader yet
    eventually(lambda: "10.0.0.2" not in town.netkit("h1", "cluster", "status"))

"""--metrics-addr as dockerd reads it, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netkit.errors import InvalidSpec
from runtime.daemon.config_load import load
from runtime.metrics.address import check


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9323", "127.0.0.1", 9323), ("localhost:9323", "localhost", 9323),
        ("[::1]:0", "::1", 0), ("127.7.7.7:80", "127.7.7.7", 80),
    ],
)  # fmt: skip
def test_loopback_needs_nothing_else(text: str, host: str, port: int) -> None:
    found = check(text, insecure=False)
    assert found is not None
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize("text", ["0.0.0.0:9323", ":9323", "[::]:9323", "10.0.0.1:1", "host.x:1"])
def test_other_addresses_are_for_those_that_insist(text: str) -> None:
    with pytest.raises(InvalidSpec, match="insist with --insecure-metrics"):
        check(text, insecure=False)
    found = check(text, insecure=True)
    assert found is not None
    assert not found.loopback


@pytest.mark.parametrize(
    "text",
    ["9323", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:9323",
     "tcp://127.0.0.1:9323", "unix:///x:1", "[::1:9323", "127.0.0.1:-1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="give HOST:PORT"):
        check(text, insecure=True)


def test_without_there_is_no_listener() -> None:
    assert load([]).metrics_addr == ""
    assert check("", insecure=False) is None


def test_the_file_has_dockers_key(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"metrics-addr": "127.0.0.1:9323"}))
    assert load(["--config", str(file)]).metrics_addr == "127.0.0.1:9323"
    file.write_text(json.dumps({"metrics-addr": "0.0.0.0:9323"}))
    with pytest.raises(InvalidSpec, match="refusing to serve metrics"):
        load(["--config", str(file)])
    assert load(["--config", str(file), "--insecure-metrics"]).insecure_metrics

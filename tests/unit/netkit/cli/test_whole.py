"""Addresses of daemons, the catalog and completion."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from netkit.cli import catalog
from netkit.cli.commands import Command, load
from netkit.cli.completion import script
from netkit.client.endpoint import Tls, parse_host, tls_files
from netkit.client.failure import Failure
from netkit.client.http import query, quote


def test_addresses_of_daemons() -> None:
    assert parse_host("unix:///a/b", None).path == "/a/b"
    here = parse_host("tcp://[::1]:99", None)
    assert (here.host, here.port, here.text) == ("::1", 99, "tcp://[::1]:99")
    assert parse_host("example.org", None).port == 2375
    assert parse_host("tcp://example.org", Tls()).port == 2376
    for bad in ("ssh://a", "tcp://a:b", "unix://" + "x" * 200):
        with pytest.raises(Failure):
            parse_host(bad, None)


def test_tls_is_asked_for_by_flags_or_environment(tmp_path: Path) -> None:
    def ask(environ: dict[str, str], **more: object) -> Tls | None:
        asked = {"tls": False, "verify": None, "ca": "", "cert": "", "key": ""} | more
        return tls_files({"DOCKER_CERT_PATH": str(tmp_path)} | environ, **asked)  # type: ignore[arg-type]

    (tmp_path / "ca.pem").touch()
    assert ask({}) is None
    assert ask({"DOCKER_TLS_VERIFY": "1"}) == Tls(ca=str(tmp_path / "ca.pem"), verify=True)
    assert ask({}, tls=True) == Tls(verify=False)
    assert ask({"DOCKER_TLS_VERIFY": "1"}, verify=False, tls=True) == Tls(verify=False)
    assert ask({}, ca=str(tmp_path / "ca.pem")) == Tls(ca=str(tmp_path / "ca.pem"), verify=True)
    with pytest.raises(Failure, match="no such file"):
        ask({}, ca="/nosuch")


def test_queries_leave_out_what_is_not_asked() -> None:
    assert query({"a": True, "b": False, "c": None, "d": "", "e": 0, "f": ["x", "y z"]}) == (
        "?a=1&e=0&f=x&f=y%20z"
    )
    assert quote("/a b/ü?#%") == "/a%20b/%C3%BC%3F%23%25"


def walk(entries: object, path: str = "netkit") -> list[tuple[str, Command]]:
    found: list[tuple[str, Command]] = []
    assert isinstance(entries, dict)
    for name, each in entries.items():
        if each.inside is not None:
            found += walk(each.inside, f"{path} {name}")
        else:
            command = load(name, each)
            assert isinstance(command, Command)
            found.append((f"{path} {name}", command))
    return found


def test_every_command_of_the_catalog_exists_and_has_unique_flags() -> None:
    for path, command in walk(catalog.ROOT):
        names = [flag.name for flag in command.flags]
        shorts = [flag.short for flag in command.flags if flag.short]
        assert len(set(names)) == len(names), path
        assert len(set(shorts)) == len(shorts), path
        assert all(flag.help for flag in command.flags if not flag.hidden), path


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command_and_flag(shell: str) -> None:
    text = script(shell)
    assert "_netkit_words[netkit_network]='check connect create disconnect" in text
    line = next(line for line in text.splitlines() if line.startswith("_netkit_flags[netkit_run]"))
    assert {"--publish", "-p", "--network", "--sig-proxy", "--help"} <= set(
        line.partition("'")[2].strip("'").split()
    )
    assert "_netkit_kinds[netkit_exec]='running stop'" in text
    assert "_netkit_kinds[netkit_net_trace]='ends ends services'" in text


def test_completion_completes() -> None:
    words = (
        'eval "$SCRIPT"; try() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _netkit;'
        ' echo "${COMPREPLY[*]}"; }; netkit() { echo "$*" >&3; echo web; echo db; }; '
        "try netkit st; try netkit run --net; try netkit -H unix:///x stop w; "
        "try netkit container --help ls --al; try netkit run -it img ''; "
        "try netkit fw drop --to w; try netkit fw accept -s d; try netkit net trace h; "
        "try netkit fw explain web w"
    )
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&2; {words}"], capture_output=True, text=True, check=True,
        env={"PATH": os.environ["PATH"], "SCRIPT": script("bash")},
    )  # fmt: skip
    assert done.stdout.split("\n") == [
        "start stats stop", "--network --network-alias", "web", "--all", "",
        "web", "db", "host", "web world", "",
    ]  # fmt: skip
    assert done.stderr.startswith("-H unix:///x ps --format {{.Names}}")

"""What the shell offers for values of flags, for `help`, and as containers of a command."""

from __future__ import annotations

import os
import subprocess

import pytest

from netkit.cli import completing
from netkit.cli.completion import script
from runtime.api.json import filter_containers, filter_images, filter_networks
from runtime.api.routes.system import EVENT_FILTERS
from runtime.container import log_options
from runtime.daemon.config_checks import LOG_DRIVERS
from runtime.oci import capabilities

PRELUDE = """
    exec 3>&2; eval "$SCRIPT"
    try() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=()
        case $1 in weave) _netkit_as_weave;; *) _netkit;; esac
        echo "${COMPREPLY[*]}"
    }
    netkit() { echo "$*" >&3; echo web; }
"""


def tried(line: str, program: str = "netkit") -> tuple[list[str], list[str]]:
    """What is offered for the last word of the line, and what the daemon was asked."""
    done = subprocess.run(
        ["bash", "-c", f"{PRELUDE}\ntry {program} {line}"], capture_output=True, text=True,
        check=True, env={"PATH": os.environ["PATH"], "SCRIPT": script("bash")},
    )  # fmt: skip
    return done.stdout.split(), done.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("line", "offered", "asked"), [
    ("help sta", "start stats", ""),
    ("help network con", "connect", ""),
    ("help run ''", "", ""),
    ("run --restart un", "unless-stopped", ""),
    ("run --network ''", "web container:web", "network ls|ps"),
    ("run --pid h", "host", "ps"),
    ("run --cap-add NET_A", "NET_ADMIN", ""),
    ("run -a std", "stdin stdout stderr", ""),
    ("kill -s SIGU", "SIGURG SIGUSR1 SIGUSR2", ""),
    ("fw drop -s w", "web", "ps -a"),
    ("network create -d ov", "ovn ovs", ""),
    ("ps -f status=r", "status=removing status=restarting status=running", ""),
    ("network ls --filter sc", "scope=global scope=local scope=swarm", ""),
    ("container prune --filter u", "until=", ""),
    ("inspect --type c", "container", ""),
    ("stop w", "web", "ps"),
    ("start w", "web", "ps -a -f status=created -f status=exited"),
    ("unpause w", "web", "ps -f status=paused"),
    ("rm w", "web", "ps -a"),
    ("run -e ''", "", ""),
])  # fmt: skip
def test_values_are_offered(line: str, offered: str, asked: str) -> None:
    found, questions = tried(line)
    assert found == offered.split()
    assert [q.partition(" --format")[0] for q in questions] == [a for a in asked.split("|") if a]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "offered", "asked"), [
    ("status c", "connections", ""),
    ("la", "launch", ""),
    ("help dns-l", "dns-lookup", ""),
    ("launch --password", "--password --password-file", ""),
    ("attach 10.2.1.3/24 w", "web", "ps"),
    ("detach net:10.2.1.0/24 net:default w", "web", "ps -a"),
    ("-H unix:///x ps w", "web", "-H unix:///x ps -a"),
    ("run 10.2.1.3/24 w", "web", "images"),
    ("run 10.2.1.3/24 -it busybox w", "", ""),
    ("run 10.2.1.3/24 --restart un", "unless-stopped", ""),
])  # fmt: skip
def test_words_of_weave_are_offered(line: str, offered: str, asked: str) -> None:
    for program, words in (("weave", line), ("netkit", f"weave {line}")):
        if line.startswith("-H") and program == "netkit":
            words = f"-H unix:///x weave {line.split(maxsplit=2)[2]}"  # noqa: PLW2901
        found, questions = tried(words, program)
        assert found == offered.split(), program
        assert [q.partition(" --format")[0] for q in questions] == [asked] * bool(asked)


def keys(words: str) -> set[str]:
    return {word.partition("=")[0] for word in words.split()}


def test_what_is_offered_is_what_the_daemon_takes() -> None:
    assert keys(completing.FILTERS["ps"]) == filter_containers.FILTERS
    assert keys(completing.FILTERS["images"]) == filter_images.FILTERS
    assert keys(completing.FILTERS["network ls"]) == filter_networks.FILTERS
    assert keys(completing.FILTERS["events"]) < EVENT_FILTERS  # without those of a swarm
    known = {name.removeprefix("CAP_") for name in capabilities.ALL}
    assert set(completing.CAPABILITIES.split()) == known | {"ALL"}
    assert set(completing.VALUES["log-driver"].split()) == set(LOG_DRIVERS)
    assert keys(completing.VALUES["log-opt"]) == log_options.OPTIONS
    states = {w.partition("=")[2] for w in completing.FILTERS["ps"].split() if "status=" in w}
    assert states == filter_containers.STATES
    assert {"SIGHUP", "SIGKILL"} <= set(completing.SIGNALS.split())

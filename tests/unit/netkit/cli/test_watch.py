"""`netkit net watch`: what it asks and prints."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from netkit.cli.app import run
from netkit.cli.watch import Names
from tests.unit.netkit.cli.cli_fake_daemon import WATCHED, anywhere

SHOWN = """\
T + network back (ovs) 10.1.0.0/24 peer 10.0.0.2
T + endpoint web on back 10.1.0.2/24 0.0.0.0:8080->80/tcp
T   web: received 400B/s, sent 200B/s, 1 dropped
T - endpoint web on back 10.1.0.2/24 0.0.0.0:8080->80/tcp
T ~ network back (ovs) 10.1.0.0/24
T + endpoint pod1 of cni on back 10.1.0.3/24
T ! repaired what another tool had changed: links, 2
T - endpoint pod1 of cni on back 10.1.0.3/24
T - network back (ovs) 10.1.0.0/24
T ! the kernel does not answer
"""


def stamped(line: dict[str, Any]) -> dict[str, Any]:
    return {"TimeNano": time.time_ns(), **line}


def test_changes_are_lines_for_people() -> None:
    names = Names()
    found = [line for each in WATCHED for line in names.lines(stamped(each))]
    assert re.sub(r"^\d\d:\d\d:\d\d", "T", "\n".join(found), flags=re.MULTILINE) + "\n" == SHOWN


def test_it_asks_for_what_its_flags_say(capfd: pytest.CaptureFixture[str]) -> None:
    with anywhere() as daemon:
        host = ["-H", f"unix://{daemon.server_address}"]
        assert run([*host, "net", "watch", "--format", "json"]) == 0
        assert run([*host, "net", "watch", "--interval", "300ms", "--traffic"]) == 0
        assert run([*host, "net", "watch", "--interval", "soon"]) == 1
        asked = [(path, query) for _, path, query, _ in daemon.record.rows()]
    assert asked == [
        ("/netkit/watch", {"interval": ["1"]}),
        ("/netkit/watch", {"interval": ["0.3"], "traffic": ["1"]}),
    ]
    out, err = capfd.readouterr()
    lines = out.splitlines()
    types = [json.loads(line)["Type"] for line in lines[: len(WATCHED)]]
    assert types == [each["Type"] for each in WATCHED]
    assert "network back (ovs)" in lines[len(WATCHED)]
    assert 'invalid --interval soon: time: invalid duration "soon"' in err

"""The journal says what other processes noted, too, and reads each line once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netkit.lab import journal as module
from netkit.lab.journal import Journal


def test_lines_of_other_processes_count_at_once(tmp_path: Path) -> None:
    one, two = Journal(str(tmp_path)), Journal(str(tmp_path))
    assert one.state("host", host="h1") is None
    two.note("begin", "host", host="h1")
    assert one.state("host", host="h1") == "begin"
    two.note("done", "host", host="h1")
    assert one.state("host", host="h1") == "done"
    assert one.begun("host", "host") == ["h1"]
    two.note("gone", "host", host="h1")
    assert one.state("host", host="h1") is None


def test_another_lab_of_the_name_begins_with_nothing(tmp_path: Path) -> None:
    one = Journal(str(tmp_path / "lab"))
    one.note("begin", "host", host="h1")
    assert one.begun("host", "host") == ["h1"]
    one.remove()
    assert one.begun("host", "host") == []
    Journal(str(tmp_path / "lab")).note("begin", "host", host="h2")
    assert one.begun("host", "host") == ["h2"]


def test_a_half_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    one = Journal(str(tmp_path))
    one.note("begin", "lab", folder="/x")
    with one.file.open("a") as file:
        file.write('{"done": "la')
        file.flush()
        assert one.state("lab") == "begin"
        file.write('b"}\n')
    assert one.state("lab") == "done"
    assert one.fact("lab", "folder") == "/x"


def test_what_a_removed_host_had_is_gone_with_it(tmp_path: Path) -> None:
    one = Journal(str(tmp_path))
    one.note("done", "firewall", host="h1", line="ip rule add x", rendered="ip rule add x")
    one.note("done", "firewall", host="h2", line="ip rule add x", rendered="ip rule add x")
    assert [each["line"] for each in one.last("firewall", host="h1")] == ["ip rule add x"]
    one.note("gone", "host", host="h1")
    assert one.last("firewall", host="h1") == []
    assert one.state("firewall", host="h1", line="ip rule add x") is None
    assert one.state("firewall", host="h2", line="ip rule add x") == "done"


def test_each_line_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, decoded = Journal(str(tmp_path)), []

    def loads(line: bytes) -> Any:
        decoded.append(line)
        return json.JSONDecoder().decode(line.decode())

    for n in range(50):
        one.note("begin", "host", host=f"h{n}")
    monkeypatch.setattr(module.json, "loads", loads)
    for n in range(50):
        assert one.state("host", host=f"h{n}") == "begin"
    assert len(decoded) <= 51

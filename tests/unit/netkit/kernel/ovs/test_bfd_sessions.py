"""A tunnel that has just begun is distinguished from one whose far end is dead."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from netkit.kernel.ovs.bfd_sessions import COMING_UP, BfdSessions
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.rows import plugged


@dataclass
class Interface:
    uuid: str = "1"
    options: dict[str, str] = field(default_factory=lambda: {"remote_ip": "192.0.2.2"})
    bfd: dict[str, str] = field(default_factory=lambda: {"enable": "true"})
    bfd_status: dict[str, str] = field(default_factory=dict)


def status(state: str, flaps: int) -> dict[str, str]:
    return {"state": state, "flap_count": str(flaps)}


class Clocked(BfdSessions):
    def __init__(self) -> None:
        self.clock = 100.0
        super().__init__(lambda: self.clock)

    def seen(self, row: Interface, event: str = "update") -> bool:
        self.note(event, row)
        return self.may_come_up(row)


def test_it_has_some_seconds_to_come_up_and_then_it_is_down() -> None:
    sessions, row = Clocked(), Interface()
    assert sessions.seen(row, "create")
    row.bfd_status = status("down", 0)
    assert sessions.seen(row)
    sessions.clock += COMING_UP - 0.1
    assert sessions.seen(row)
    sessions.clock += 0.1
    assert not sessions.seen(row)


def test_one_that_was_up_and_is_down_is_down() -> None:
    sessions, row = Clocked(), Interface()
    sessions.seen(row, "create")
    row.bfd_status = status("up", 1)
    assert not sessions.seen(row)
    row.bfd_status = status("down", 2)
    assert not sessions.seen(row)


def test_another_far_end_or_another_switch_process_has_its_seconds_anew() -> None:
    sessions, row = Clocked(), Interface(bfd_status=status("up", 1))
    sessions.seen(row, "create")
    sessions.clock += 100
    row.options, row.bfd_status = {"remote_ip": "192.0.2.3"}, status("down", 2)
    assert sessions.seen(row)
    sessions.clock += COMING_UP
    assert not sessions.seen(row)
    row.bfd_status = status("down", 0)  # ovs-vswitchd was restarted
    assert sessions.seen(row)


@pytest.mark.parametrize(
    "row", [Interface(bfd={}), Interface(options={}), Interface(bfd_status=status("down", 3))]
)
def test_what_is_not_probed_is_no_tunnel_or_went_down_before_is_not_new(row: Interface) -> None:
    assert not Clocked().seen(row, "create")


def test_what_was_before_the_connection_is_not_known() -> None:
    sessions, row = Clocked(), Interface(bfd_status=status("down", 0))
    sessions.seen(row, "create")
    sessions.clock += COMING_UP
    sessions.forget()
    assert sessions.seen(row, "create")
    sessions.note("delete", row)
    assert not sessions.may_come_up(row)


def test_rows_of_the_copy_are_noted_and_shown_with_the_ports() -> None:
    database = Ovsdb("unix:/none")
    row = SimpleNamespace(**vars(Interface()), name="g1", type="gre", ofport=[7],
                          _table=SimpleNamespace(name="Interface"))  # fmt: skip
    database._noted("create", row)
    database._noted("create", SimpleNamespace(_table=SimpleNamespace(name="Port")))
    bridge = SimpleNamespace(name="obr0", ports=[SimpleNamespace(interfaces=[row])])
    idl = SimpleNamespace(tables={"Bridge": SimpleNamespace(rows={1: bridge})})
    (port,) = plugged(idl, database.sessions.may_come_up)
    assert (port.state, port.beginning) == ("down", True)
    (port,) = plugged(idl, lambda _: False)
    assert (port.state, port.beginning) == ("unknown", False)

"""The state of one engine, and how lines of its streams change that."""

from __future__ import annotations

from typing import Any

from netkit.ui.state import EngineState, container, drift

WEB = {"Id": "c1", "Names": ["/web"], "Image": "busybox", "State": "running",
       "Status": "Up 2 hours (unhealthy)",
       "NetworkSettings": {"Networks": {"back": {"NetworkID": "n1"}}}}  # fmt: skip
SHOWN = {"Name": "web", "Image": "busybox", "State": "running", "Status": "",
         "Health": "unhealthy", "Networks": ["n1"]}  # fmt: skip


def followed(*lines: dict[str, Any]) -> tuple[EngineState, list[dict[str, Any]]]:
    state = EngineState()
    return state, [state.line(line) for line in lines]


def test_a_line_changes_what_it_names_and_is_handed_on() -> None:
    state, changed = followed(
        {"Type": "state", "Networks": {"n": {"Name": "a"}}, "Endpoints": {"e": {}},
         "Repaired": {"links": 0}},
        {"Type": "change", "Endpoints": {"e": None, "f": {}}, "Repaired": {"links": 1}},
    )  # fmt: skip
    assert changed[1] == {"Endpoints": {"e": None, "f": {}}, "Repaired": {"links": 1}}
    assert state.complete["Networks"] == {"n": {"Name": "a"}}
    assert state.complete["Endpoints"] == {"f": {}}
    assert state.complete["Repaired"] == {"links": 1}


def test_the_state_of_an_engine_that_came_back_replaces_all() -> None:
    state, changed = followed(
        {"Type": "state", "Networks": {"n": {}, "m": {}}, "Endpoints": {"e": {}}, "Repaired": {}},
        {"Type": "state", "Networks": {"n": {}}, "Endpoints": {}, "Repaired": {}},
    )
    assert changed[1] == {"Networks": {"m": None}, "Endpoints": {"e": None}}
    assert (state.complete["Networks"], state.complete["Endpoints"]) == ({"n": {}}, {})


def test_containers_that_are_listed_no_more_are_removed() -> None:
    state = EngineState()
    assert state.containers([WEB]) == {"Containers": {"c1": SHOWN}}
    assert state.containers([WEB]) == {}
    assert state.containers([]) == {"Containers": {"c1": None}}


def test_what_was_handed_out_does_not_change_afterwards() -> None:
    state = EngineState()
    before = state.complete
    state.containers([WEB])
    state.set("Problem", "gone")
    assert (before["Containers"], before["Problem"]) == ({}, "starting")


def test_the_time_in_a_status_is_no_change() -> None:
    assert container(WEB) == SHOWN
    assert container(WEB | {"Status": "Up 3 hours (unhealthy)"}) == SHOWN
    exited = WEB | {"State": "exited", "Status": "Exited (3) 1 second ago"}
    assert container(exited)["Status"] == "Exited (3) 1 second ago"


def test_drift_of_networks_and_of_the_firewall_is_one_list() -> None:
    step = {"Step": "+ veth veth01", "Network": "back", "Container": "web", "Note": "left alone"}
    firewall = {"Steps": ["+ rule x"], "Findings": ["f"], "Enforced": True}
    found = drift({"Drift": [step], "Findings": ["f"]}, firewall)
    assert found == [step, *({"Step": text, "Network": "", "Container": "", "Note": ""}
                             for text in ("f", "+ rule x"))]  # fmt: skip

"""docs/metrics.md has every series; the dashboard and the alerts name only those that exist."""

from __future__ import annotations

import json
import os
import re
from itertools import groupby
from typing import Any

import pytest
import yaml

from runtime.metrics.series import ALL, BY_NAME, Series
from tests.places import ROOT

PAGE = ROOT / "docs" / "metrics.md"
FOLDER = ROOT / "runtime" / "metrics"
BEGIN = "<!-- made by tests/unit/runtime/metrics/test_documented.py -->\n"
UPDATE = bool(os.environ.get("NETKIT_UPDATE_GOLDEN"))
FROM_PROMETHEUS = {"up"}  # what it makes of each target itself
ITS_LABELS = {"instance", "job", "le"}
WORD = re.compile(r"\b(?:netkit|process|python)_\w+")
SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)")


def row(series: Series) -> str:
    labels = ", ".join(f"`{label}`" for label in series.labels)
    return f"| `{series.name}` | {series.kind} | {labels} | {series.help.rstrip('.')} |"


def tables() -> str:
    parts = [
        "\n".join([f"## {part}", "", "| series | type | labels | |", "|---|---|---|---|",
                   *map(row, rows), ""])
        for part, rows in groupby(ALL, lambda series: series.part)
    ]  # fmt: skip
    return "\n".join(parts)


def test_the_page_has_every_series() -> None:
    head, begin, found = PAGE.read_text().partition(BEGIN)
    if UPDATE:
        PAGE.write_text(f"{head}{BEGIN}{tables()}")
        return
    assert begin
    assert found == tables(), "run it with NETKIT_UPDATE_GOLDEN=1"


def series_of(word: str) -> Series | None:
    """As a name of a sample is: a histogram has three."""
    bare = re.sub(r"_(bucket|sum|count)\Z", "", word)
    return BY_NAME.get(word) or BY_NAME.get(bare)


def faults(expression: str) -> list[str]:
    """Names of series, and labels, that do not exist."""
    text = re.sub(r'"[^"]*"', '""', expression)
    words = set(WORD.findall(text))
    out = [word for word in words if series_of(word) is None]
    known = {label for word in words if (s := series_of(word)) for label in s.labels}
    for name, inside in SELECTOR.findall(text):
        series = series_of(name)
        labels = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", inside))
        if name not in FROM_PROMETHEUS and series is not None:
            out += [f"{name}{{{x}}}" for x in labels - set(series.labels) - ITS_LABELS]
        elif name not in FROM_PROMETHEUS:
            out.append(name)
    for inside in GROUPED.findall(text):
        out += [f"by {x.strip()}" for x in inside.split(",") if x.strip() not in known | ITS_LABELS]
    return out


def test_the_search_for_faults_finds_them() -> None:
    assert faults("sum by (state) (netkit_containers{state=~'a'})") == []
    assert faults("netkit_containres") == ["netkit_containres"]
    assert faults('netkit_containers{stat="x"}') == ["netkit_containers{stat}"]
    assert faults("sum by (engine) (netkit_containers)") == ["by engine"]
    assert faults("rate(netkit_converge_duration_seconds_bucket[5m])") == []


DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]  # fmt: skip


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert faults(target["expr"]) == []
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        words = WORD.findall(target["expr"])
        labels = {label for word in words if (s := series_of(word)) for label in s.labels}
        assert named <= labels, target
        if grouped := GROUPED.findall(target["expr"]):
            kept = {x.strip() for inside in grouped for x in inside.split(",")}
            assert named <= kept, target


def test_the_dashboard_is_complete() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            assert faults(variable["definition"].removeprefix("label_values")) == []
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    shown = {word for panel in PANELS for t in panel["targets"] for word in WORD.findall(t["expr"])}
    parts = {series.part for word in shown if (series := series_of(word))}
    assert parts == {series.part for series in ALL}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"]) == []
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    words = WORD.findall(rule["expr"])
    labels = {label for word in words if (s := series_of(word)) for label in s.labels}
    named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert named <= labels | ITS_LABELS
    if grouped := GROUPED.findall(rule["expr"]):
        kept = {x.strip() for inside in grouped for x in inside.split(",")}
        assert named <= kept


def test_names_of_alerts_are_their_own() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)

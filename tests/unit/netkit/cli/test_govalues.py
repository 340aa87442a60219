"""Values as Go has them: durations, structures, maps, and what is not there."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError
from netkit.cli.gotypes import TYPES, typed
from netkit.cli.govalues import duration, marshalled, show, to_json
from netkit.cli.human import ansi_date

CONTAINER = {
    "Id": "7", "Name": "/web", "State": {"Status": "running", "Running": True, "Pid": 5},
    "Config": {
        "Labels": {"b": "2", "a": "<1>"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": None,
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 90 * 10**9, "Timeout": 15 * 10**8},
    },
    "HostConfig": {
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "NanoCpus": 15,
        "Ulimits": [{"Name": "nofile", "Hard": 128, "Soft": 64}], "PidsLimit": 0, "Init": False,
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}, "Mystery": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (1, "1ns"), (1500, "1.5µs"), (20 * 10**6, "20ms"), (1_500_000_000, "1.5s"),
     (90 * 10**9, "1m30s"), (3600 * 10**9, "1h0m0s"), (-90 * 10**9, "-1m30s"),
     (3_661_000_000_001, "1h1m1.000000001s")],
)  # fmt: skip
def test_durations_are_printed_as_go_does(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.Config.Healthcheck.Interval}}", "1m30s"),
        ("{{.Config.Healthcheck}}", "{[CMD true] 1m30s 1.5s 0s 0s 0}"),
        ("{{json .Config.Healthcheck}}",
         '{"Test":["CMD","true"],"Interval":90000000000,"Timeout":1500000000}'),
        ("{{.HostConfig.RestartPolicy}}", "{on-failure 3}"),
        ('{{printf "%+v" .HostConfig.RestartPolicy}}', "{Name:on-failure MaximumRetryCount:3}"),
        ("{{.HostConfig.PortBindings}}", "map[80/tcp:[{ 8080}]]"),
        ("{{.HostConfig.Ulimits}}", "[nofile=64:128]"),
        ("{{.Config.ExposedPorts}} {{.Config.Volumes}} {{json .Config.Volumes}}",
         "map[80/tcp:{}] map[] null"),
        ("{{.Config.Labels}} {{json .Config.Labels}}", 'map[a:<1> b:2] {"a":"<1>","b":"2"}'),
        ("{{.HostConfig.Init}} {{.HostConfig.PidsLimit}} {{.HostConfig.MemorySwappiness}}",
         "false 0 <nil>"),
        ("{{json .State}}", '{"Status":"running","Running":true,"Paused":false,"Restarting":false,'
         '"OOMKilled":false,"Dead":false,"Pid":5,"ExitCode":0,"Error":"","StartedAt":"",'
         '"FinishedAt":""}'),
        ("{{.ID}} {{.Id}}", "7 7"),
        ("{{.HostConfig.Memory}} {{.HostConfig.NanoCPUs}}", "0 15"),  # of an embedded structure
        ("{{.HostConfig.NanoCpus}} {{.HostConfig.Mystery}}", "15 1"),  # only JSON has them
        ("{{if .State.Health}}x{{else}}none{{end}}", "none"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{with .HostConfig}}{{.CPUShares}}{{end}}", "0"),
    ],
)  # fmt: skip
def test_containers_are_structures_of_go(source: str, expected: str) -> None:
    assert Template(source).inspect("Container", CONTAINER) == expected


@pytest.mark.parametrize("source", ["{{.Nope}}", "{{.State.Health.Status}}", "{{if .Nope}}{{end}}"])
def test_what_neither_structure_nor_json_has_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).inspect("Container", CONTAINER)


def test_a_time_is_printed_as_go_prints_it() -> None:
    found = typed("Network", {"Created": "2026-01-02T03:04:05.6Z"})
    assert Template("{{.Created}}").render(found) == "2026-01-02 03:04:05.6 +0000 UTC"
    assert '"Created":"2026-01-02T03:04:05.6Z"' in to_json(found)


@pytest.mark.parametrize(
    ("given", "shown"),
    [(".1392953000", ".1392953"), (".000000000", ""), ("", ""), (".5", ".5")],
)
def test_a_time_in_json_has_no_more_digits_than_it_needs(given: str, shown: str) -> None:
    found = typed("Network", {"Created": f"2026-01-02T03:04:00{given}Z"})
    assert f'"Created":"2026-01-02T03:04:00{shown}Z"' in to_json(found)


def test_json_escapes_what_scripts_cannot_have_and_html_where_go_does() -> None:
    assert to_json({"a": "<&>\u2028"}) == '{"a":"<&>\\u2028"}'
    assert marshalled({"a": "<&>\u2029"}) == '{"a":"\\u003c\\u0026\\u003e\\u2029"}'


def test_nothing_within_a_list_is_nil() -> None:
    assert show([None, {"a": None}]) == "[<nil> map[a:<nil>]]"
    assert show(None) == "<no value>"


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_type_takes_an_empty_document_and_one_that_does_not_fit(kind: str) -> None:
    show(typed(kind, {}))
    to_json(typed(kind, {}))
    assert typed(kind, 3) == 3


@pytest.mark.parametrize(
    ("given", "shown"),
    [("2025-05-30T12:07:14.000000000+00:00", "Fri May 30 12:07:14 2025"),
     ("2025-05-03T02:07:04Z", "Sat May  3 02:07:04 2025"), ("", ""), ("lately", "lately"),
     ("2024-02-29T23:59:59Z", "Thu Feb 29 23:59:59 2024"), ("2025-13-01T00:00:00Z",) * 2,
     ("2025-01-01T00:61:00Z",) * 2, ("2025-01-01",) * 2, ("2025-01-01T00:00",) * 2],
)  # fmt: skip
def test_the_time_of_a_build_is_shown_as_docker_does(given: str, shown: str) -> None:
    assert ansi_date(given) == shown


def test_days_of_the_week_are_those_of_the_calendar() -> None:
    for days in range(0, 400 * 366, 499):
        day = date(1899, 12, 31) + timedelta(days)
        assert ansi_date(f"{day}T00:00:00Z")[:3] == f"{day:%a}", day

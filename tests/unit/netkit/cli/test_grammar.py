"""The texts of flags: how they are read, and into what."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.cli import flags, moments, ports, values
from netkit.client.failure import Failure, Misuse

FLAGS = (
    flags.switch("interactive", short="i"),
    flags.switch("tty", short="t"),
    flags.switch("rm", default=None),
    flags.text("name"),
    flags.many("env", short="e"),
    flags.value("time", "int", values.integer),
)


def read(*argv: str, interspersed: bool = True) -> flags.Options:
    return flags.read(FLAGS, argv, "netkit x", interspersed=interspersed)


@pytest.mark.parametrize(
    ("argv", "args", "expected"),
    [
        (("-it", "a"), ("a",), {"interactive": True, "tty": True}),
        (("-te", "X=1"), (), {"env": ("X=1",), "tty": True}),
        (("-eX=1", "-e=Y", "--env", "Z", "--env=W=2"), (), {"env": ("X=1", "Y", "Z", "W=2")}),
        (("--rm=false", "--tty=T"), (), {"rm": False, "tty": True}),
        (("-i=false",), (), {"interactive": False}),
        (("a", "--name", "b", "c"), ("a", "c"), {"name": "b"}),
        (("--name=", "-", "--", "--name"), ("-", "--name"), {"name": ""}),
        (("--time", "0x10"), (), {"time": 16}),
    ],
)
def test_flags_are_read_as_dockers(
    argv: tuple[str, ...], args: tuple[str, ...], expected: dict[str, object]
) -> None:
    options = read(*argv)
    assert options.args == args
    assert {key: options.values[key] for key in expected} == expected
    assert options.given == set(expected)


def test_after_the_first_argument_everything_is_the_containers() -> None:
    options = read("-i", "image", "-t", "--", "--name", interspersed=False)
    assert options.args == ("image", "-t", "--", "--name")
    assert not options.flag("tty")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--nam", "x"), "unknown flag: --nam, did you mean --name?"),
        (("-iz",), "unknown shorthand flag: 'z' in -iz"),
        (("-e",), "flag needs an argument: 'e' in -e"),
        (("--rm=perhaps",), 'invalid argument "perhaps" for "--rm" flag'),
    ],
)
def test_a_wrong_flag_is_named(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(Misuse, match="netkit x --help") as caught:
        read(*argv)
    assert message in str(caught.value)
    assert caught.value.code == 125


@pytest.mark.slow
@given(st.integers(0, 2**50), st.sampled_from(["", "b", "k", "kb", "KiB", "m", "GB", " gib"]))
def test_sizes_are_powers_of_1024(number: int, unit: str) -> None:
    letter = unit.strip().lower()[:1]
    power = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3}[letter]
    assert values.size(f"{number}{unit}") == pytest.approx(number * 1024**power, rel=1e-9)


@pytest.mark.slow
@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, millis: int) -> None:
    whole = ((hours * 60 + minutes) * 60 + seconds) * 10**9 + millis * 10**6
    assert values.duration(f"{hours}h{minutes}m{seconds}s{millis}ms") == whole
    assert values.duration(f"-{hours}h{minutes}m{seconds}.{millis:03d}s") == -whole


@pytest.mark.slow
@given(st.text(max_size=20))
def test_parsers_only_ever_raise_value_errors(text: str) -> None:
    for parse in (values.size, values.duration, values.cpus, values.ulimit, values.extra_host,
                  values.mac, values.restart_policy, ports.parse, ports.exposed):  # fmt: skip
        with contextlib.suppress(ValueError):
            parse(text)


@pytest.mark.slow
@given(st.integers(1, 65000), st.integers(0, 50), st.sampled_from(["tcp", "udp", "sctp"]))
def test_a_range_publishes_each_of_its_ports(first: int, more: int, proto: str) -> None:
    last = first + more
    found = ports.parse(f"10.0.0.1:{first}-{last}:{first}-{last}/{proto}")
    assert [each.port for each in found] == [f"{n}/{proto}" for n in range(first, last + 1)]
    assert [each.host_port for each in found] == [str(n) for n in range(first, last + 1)]
    assert {each.host_ip for each in found} == {"10.0.0.1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("1700000000", "1700000000"),
        ("1700000000.5", "1700000000.5"),
        ("10m", "1699999400.500000000"),
        ("2024-01-02T03:04:05Z", "1704164645.000000000"),
        ("2024-01-02T03:04:05.25+01:00", "1704161045.250000000"),
        ("2024-01-02T03:04Z", "1704164640.000000000"),
        ("2024-01-02Z", "1704153600.000000000"),
    ],
)
def test_times_for_since_and_until(text: str, expected: str) -> None:
    assert moments.seconds(text, 1700000000.5) == expected


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01Z", "5 m", "-5"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="invalid time"):
        moments.seconds(text, 0)

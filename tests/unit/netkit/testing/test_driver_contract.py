"""The contract suite fails drivers that break it, and prints the subject before it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from netkit.driver import Endpoint, Network, Segment, TrafficPolicy, ifname
from netkit.errors import Conflict
from netkit.model import Addr, Link, Resource
from netkit.testing import driver_contract as contract
from netkit.testing.driver_world import Subject, World, container, endpoint, setup
from netkit.testing.kernel import NETNS, FakeKernel
from netkit.testing.plugin import load, parse_options
from tests.stages import CLONE

sys.path.insert(0, str(CLONE / "docs/examples/hub"))
from netkit_hub import Hub, Options

sys.path.pop(0)


def _run(check: Callable[..., None], make: Callable[[], Hub]) -> None:
    """Run one test of the contract on a host made of a dict."""
    subject = Subject(name="wrong", make=make)
    driver = subject.driver()
    net = subject.network(driver=driver)
    world = World(FakeKernel(), NETNS, "/run/outside")
    world.prepare()
    before = setup(driver)
    ends = [container(net, driver, endpoint(net, NETNS, n)) for n in (1, 2)]
    whole = {r.key: r for r in driver.network(net)} | {k: r for end in ends for k, r in end.items()}
    values = {
        "subject": subject, "driver": driver, "net": net, "world": world, "before": before,
        "whole": whole,
    }  # fmt: skip
    names = check.__code__.co_varnames[: check.__code__.co_argcount]
    check(**{name: values[name] for name in names})


class Reads(Hub):
    def network(self, net: Network) -> Iterable[Resource]:
        assert Path("/proc/self/stat").read_text()
        return super().network(net)


class Remembers(Hub):
    count = 0

    def network(self, net: Network) -> Iterable[Resource]:
        Remembers.count += 1
        yield from super().network(net)
        yield Link(name=f"again{Remembers.count}", kind="bridge", owner=net.owner)


class Unlisted(Hub):
    def parse(self, options: Mapping[str, str]) -> Options:
        return super().parse({"mtu": options["size"]} if options.get("size") else {})


class Crashes(Hub):
    def parse(self, options: Mapping[str, str]) -> Options:
        return Options(mtu=int(options.get("mtu", "1500")))


class Strict(Hub):
    def parse(self, options: Mapping[str, str]) -> Options:
        return replace(super().parse(options), mtu=len(options) or None)


class Ownerless(Hub):
    def network(self, net: Network) -> Iterable[Resource]:
        return [replace(r, owner="mine") for r in super().network(net)]


class NetworksLink(Hub):
    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        for r in super().endpoint(net, ep):
            yield replace(r, owner=net.owner) if isinstance(r, Link) else r


class OnSegment(Hub):
    def segment(self, net: Network) -> Segment:
        (link,) = (r.name for r in self.network(net) if isinstance(r, Link))
        return Segment(link=link, probe=0)


class Astray(OnSegment):
    def segment(self, net: Network) -> Segment:
        return Segment(link="never", probe=1.0)


class Backwards(OnSegment):
    def segment(self, net: Network) -> Segment:
        return replace(super().segment(net), probe=-1.0)


class OneName(Hub):
    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        near = ifname("veth", net.id)
        for r in super().endpoint(net, ep):
            yield replace(r, name=near) if isinstance(r, Link) else replace(r, via=near)


class OneBridge(Hub):
    def network(self, net: Network) -> Iterable[Resource]:
        yield Link(name="hub", kind="bridge", owner=net.owner)


class Dangling(Hub):
    def network(self, net: Network) -> Iterable[Resource]:
        yield from super().network(net)
        yield Addr(dev="never", address=ip_interface("10.9.9.9/24"), owner=net.owner)


class Leaves(Hub):
    def network(self, net: Network) -> Iterable[Resource]:
        for r in super().network(net):
            yield replace(r, owner="netkit:9:000000000000") if isinstance(r, Link) else r


class Elsewhere(Hub):
    def policy(self, net: Network) -> TrafficPolicy:
        return TrafficPolicy(link="never")


@pytest.mark.parametrize(
    ("check", "driver"),
    [
        (contract.test_a_driver_is_pure, Reads),
        (contract.test_a_driver_is_pure, Remembers),
        (contract.test_every_option_that_is_read_is_listed, Unlisted),
        (contract.test_a_bad_value_is_refused_by_name_or_good_for_a_network, Crashes),
        (contract.test_options_of_other_tools_have_no_effect, Strict),
        (contract.test_resources_are_values_with_an_owner, Ownerless),
        (contract.test_resources_are_values_with_an_owner, NetworksLink),
        (contract.test_a_shared_segment_is_an_interface_with_seconds_to_probe, Astray),
        (contract.test_a_shared_segment_is_an_interface_with_seconds_to_probe, Backwards),
        (contract.test_two_endpoints_have_nothing_of_their_own_in_common, OneName),
        (contract.test_two_networks_have_nothing_in_common_or_the_second_is_refused, OneBridge),
        (contract.test_what_is_needed_is_made_or_there, Dangling),
        (contract.test_endpoints_come_and_go_and_the_network_stays, Leaves),
        (contract.test_all_of_it_goes_at_once, Leaves),
        (contract.test_links_of_others_are_neither_taken_over_nor_hurt, Leaves),
        (contract.test_the_policy_is_about_a_link_that_is_there, Elsewhere),
    ],
)
def test_a_driver_that_breaks_it_fails(check: Callable[..., None], driver: type[Hub]) -> None:
    _run(check, OnSegment if issubclass(driver, OnSegment) else Hub)
    with pytest.raises((AssertionError, ValueError, Conflict, pytest.fail.Exception)):
        _run(check, driver)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ("netkit_hub", "--driver netkit_hub: give MODULE:CLASS, as in netkit_hub:Hub"),
        (":Hub", "--driver :Hub: give MODULE:CLASS, as in netkit_hub:Hub"),
        ("netkit_none:Hub", "--driver netkit_none:Hub: cannot import netkit_none: No module "
                            "named 'netkit_none': install it, or set PYTHONPATH to its folder"),
        ("netkit_hub:Hubb", "--driver netkit_hub:Hubb: module netkit_hub has no class Hubb"),
        ("netkit_hub:bridge", "--driver netkit_hub:bridge: module netkit_hub has no class, but "
                              "something else, called bridge"),
        ("netkit_hub:Options", "--driver netkit_hub:Options: Options is no network driver, it has "
                               "no name, options, uses_ipam, supports_port_mapping, parse, "
                               "policy, network, endpoint: see netkit.driver.Driver"),
        (f"{__name__}:Needy", f"--driver {__name__}:Needy: Needy() fails: what is it?"),
    ],
)  # fmt: skip
def test_what_is_no_driver_is_refused_in_a_line(given: str, refusal: str) -> None:
    sys.modules.setdefault(__name__, sys.modules[Needy.__module__])
    with pytest.raises(pytest.UsageError) as error:
        load(given)
    assert str(error.value) == refusal


class Needy(Hub):
    def __init__(self) -> None:
        raise RuntimeError("what is it?")


def test_a_driver_and_its_options_are_read_from_the_command_line() -> None:
    assert load("netkit_hub:Hub") is Hub
    assert parse_options(["mtu=1400", "a=b=c"]) == {"mtu": "1400", "a": "b=c"}
    with pytest.raises(pytest.UsageError, match="--driver-option mtu: give KEY=VALUE"):
        parse_options(["mtu"])


@pytest.mark.slow
def test_pytest_runs_the_suite_on_the_driver_of_its_command_line(tmp_path: Path) -> None:
    """Run it from a folder of the author's, without naming the suite."""

    def run(driver: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "pytest", "--driver", driver, "--collect-only", "-q"]
        path = os.pathsep.join((str(CLONE), str(CLONE / "docs/examples/hub")))
        return subprocess.run(
            argv, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    found = run("netkit_hub:Hub")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "test_a_driver_is_pure[netkit_hub:Hub]" in found.stdout
    assert "test_neighbours_reach_each_other[netkit_hub:Hub-real]" in found.stdout
    wrong = run("netkit_hub:Hubb")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert wrong.stderr.strip().splitlines() == [
        "ERROR: --driver netkit_hub:Hubb: module netkit_hub has no class Hubb"
    ]


def test_the_page_shows_the_sample_as_it_is() -> None:
    page = (CLONE / "docs/drivers.md").read_text()
    for file, language in (("netkit_hub.py", "python"), ("pyproject.toml", "toml")):
        text = (CLONE / "docs/examples/hub" / file).read_text()
        assert f"```{language}\n{text}```" in page
        assert len(text.splitlines()) <= 60

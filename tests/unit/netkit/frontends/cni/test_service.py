"""ADD, DEL, CHECK, GC and STATUS: networks, addresses, ports and names that come of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.model import Addr
from netkit.reconcile.plan import Op
from netkit.spec import NetworkSpec, SubnetSpec
from tests.unit.netkit.frontends.cni.cni_bench import IDS, CniBench, Failed, conf, ports
from tests.unit.netkit.network.fault_bench import LOWEST


@pytest.fixture
def bench(memory: Path) -> Iterator[CniBench]:
    b = CniBench(memory / "db")
    yield b
    b.stop()


def refused(code: int) -> Any:
    return pytest.raises(Failed, match=f"^{code}: ")


def test_a_container_is_attached_and_nothing_of_it_stays_after_del(bench: CniBench) -> None:
    bench.add(conf())
    bench.call("DEL", conf())
    before = bench.state()
    result = bench.add(conf())
    assert result["ips"] == [
        {"interface": 2, "address": "10.60.0.2/24", "gateway": "10.60.0.1"}
    ]
    bridge, near, inside = result["interfaces"]
    assert (bridge["name"][:3], near["name"][:4]) == ("br-", "veth")
    assert {("link", "", bridge["name"]), ("link", "", near["name"])} <= bench.kernel.things.keys()
    assert (inside["name"], inside["sandbox"]) == ("eth0", "/run/netns/c1")
    assert inside["mac"] == bench.net.endpoints()[0].mac
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.60.0.1"}]
    assert result["dns"] == {"nameservers": ["127.0.0.11"]}
    assert bench.settled == 2  # names are answered before ADD is
    bench.check(conf(), result)
    bench.call("DEL", conf())
    assert bench.state() == before
    assert bench.attachments() == []


def test_the_network_is_made_as_the_configuration_says(bench: CniBench) -> None:
    made = conf(
        ipRange="10.60.0.64/26", gateway="10.60.0.9", internal=True,
        options={"com.docker.network.driver.mtu": "1400"},
    )  # fmt: skip
    result = bench.add(made)
    spec = bench.net.find("back").spec
    assert spec.subnets == (
        SubnetSpec(subnet="10.60.0.0/24", ip_range="10.60.0.64/26", gateway="10.60.0.9"),
    )
    assert (spec.internal, spec.driver, spec.labels) == (True, "bridge", {"netkit.origin": "cni"})
    assert "routes" not in result
    assert {i["mtu"] for i in result["interfaces"]} == {1400}
    assert bench.add(made, 2)["ips"][0]["address"] == "10.60.0.65/24"


@pytest.mark.parametrize(
    ("key", "value"),
    [("driver", "weave"), ("subnet", "10.61.0.0/24"), ("gateway", "10.60.0.77"),
     ("internal", True), ("scope", "global"), ("ipamDriver", "dhcp"), ("ipRange", "10.60.0.0/25"),
     ("options", {"com.docker.network.driver.mtu": "1400"})],
)  # fmt: skip
def test_a_network_that_differs_is_refused_by_the_key(
    bench: CniBench, key: str, value: object
) -> None:
    bench.add(conf())
    with refused(7) as error:
        bench.add(conf(**{key: value}), 2)
    assert f"differs in {key}" in error.value.error["msg"]
    assert bench.attachments() == [("1", "back", "eth0")]
    assert len(bench.net.endpoints()) == 1


def test_a_network_of_netkits_own_is_joined_by_name(bench: CniBench) -> None:
    record = bench.net.create(NetworkSpec(name="front")).record
    result = bench.add(conf("cni0", network="front"))
    assert [e.network for e in bench.net.endpoints()] == [record.id]
    bench.check(conf("cni0", network="front"), result)
    with refused(7) as error:
        bench.add(conf("cni0", network="fron"), 2)
    assert "network fron not found" in str(error.value)
    with refused(7):  # by its name alone
        bench.add(conf("cni0", network=record.id[:12]), 2)
    with refused(7):
        bench.add(conf("cni0", network="host"), 2)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_result_is_of_the_configurations_version(bench: CniBench, version: str) -> None:
    result = bench.add(conf(version=version))
    assert result["cniVersion"] == version
    assert result["ips"][0].get("version") == ("4" if version == "0.4.0" else None)


def test_addresses_and_mac_come_from_args_capabilities_or_both(bench: CniBench) -> None:
    args = "IgnoreUnknown=1;IP=10.60.0.50;MAC=02:42:00:00:00:07"
    one = bench.add(conf(), 1, CNI_ARGS=args)
    assert one["ips"][0]["address"] == "10.60.0.50/24"
    assert one["interfaces"][2]["mac"] == "02:42:00:00:00:07"
    runtime = {"ips": ["10.60.0.51/24", "10.60.0.51"], "mac": "02:42:00:00:00:08"}
    capable = conf(capabilities={"ips": True, "mac": True}, runtimeConfig=runtime)
    two = bench.add(capable, 2, CNI_ARGS="IP=10.60.0.51")
    assert two["ips"][0]["address"] == "10.60.0.51/24"
    assert two["interfaces"][2]["mac"] == "02:42:00:00:00:08"
    with refused(100) as error:
        bench.add(conf(), 3, CNI_ARGS="IP=10.60.0.50")
    assert "10.60.0.50" in str(error.value)
    with refused(7):  # one address is what a bridge gives
        bench.add(conf(runtimeConfig={"ips": ["10.60.0.60", "10.60.0.61"]}), 3)
    with refused(7):
        bench.add(conf(runtimeConfig={"ips": ["fd00::2"]}), 3)
    with refused(7):
        bench.add(conf(runtimeConfig={"ips": ["10.99.0.1"]}), 3)
    three = bench.add(conf(args={"cni": {"ips": ["10.60.0.60"]}}), 3)
    assert three["ips"][0]["address"] == "10.60.0.60/24"


def test_ports_are_published_and_released(bench: CniBench) -> None:
    published = conf(**ports((LOWEST, 80), (LOWEST, 80), (LOWEST + 1, 443)))
    bench.add(published)
    (record,) = bench.net.endpoints()
    found = {(p.proto, p.container_port, p.host_port) for p in record.ports}
    assert found == {("tcp", 80, LOWEST), ("tcp", 443, LOWEST + 1)}
    with refused(100) as error:
        bench.add(conf(**ports((LOWEST, 80))), 2)
    assert "container c1 of cni" in str(error.value)
    bench.call("DEL", conf())  # whatever the rest is
    bench.add(conf(**ports((LOWEST, 80))), 2)


@pytest.mark.parametrize(
    "mapping",
    [{"hostPort": 0, "containerPort": 80}, {"hostPort": 80, "containerPort": 1 << 16},
     {"hostPort": 80, "containerPort": 80, "protocol": "icmp"},
     {"hostPort": 80, "containerPort": 80, "hostIP": "fd00::1"},
     {"hostPort": 80, "containerPort": 80, "hostIP": "here"}, {"hostPort": "80"}, 7],
)  # fmt: skip
def test_a_wrong_port_mapping_is_refused(bench: CniBench, mapping: object) -> None:
    with refused(7):
        bench.add(conf(runtimeConfig={"portMappings": [mapping]}))
    assert bench.attachments() == []


def test_names_are_the_containers_its_aliases_and_its_id(bench: CniBench) -> None:
    bench.add(conf(runtimeConfig={"aliases": {"back": ["db", "db"], "other": ["x"]}}))
    bench.add(conf(runtimeConfig={"aliases": ["cache"]}), 2)
    one, two = bench.net.endpoints()
    assert one.spec.names == ("c1", "db", IDS[0][:12])
    assert two.spec.names == ("c2", "cache", IDS[1][:12])
    pod = "K8S_POD_NAME=web;K8S_POD_NAMESPACE=prod;K8S_POD_UID=x"
    bench.add(conf(), 3, CNI_ARGS=pod)
    assert "web.prod" in {e.owner_name for e in bench.net.endpoints()}
    bench.add(conf(), 4, CNI_ARGS="")
    assert IDS[3][:12] in {e.owner_name for e in bench.net.endpoints()}


def test_ports_of_several_adds_are_published_once(bench: CniBench) -> None:
    two = {"name": "two", "subnet": "10.61.0.0/24"}
    bench.add(conf(**ports((LOWEST, 80))))
    bench.add(conf(**two, **ports((LOWEST, 80), (LOWEST + 1, 81))), 1, "eth1")
    one = next(e for e in bench.net.endpoints() if e.is_default)
    assert {p.host_port for p in one.ports} == {LOWEST, LOWEST + 1}
    bench.call("DEL", conf(**two), 1, "eth1")
    (one,) = bench.net.endpoints()
    assert {p.host_port for p in one.ports} == {LOWEST}
    bench.add(conf(**ports((LOWEST + 2, 80))), 2)
    before = bench.state()[:2]
    with refused(100):
        bench.add(conf(**two, **ports((LOWEST + 2, 81))), 1, "eth1")
    assert bench.state()[:2] == before
    bench.call("DEL", conf())
    bench.call("DEL", conf(), 2)
    assert sorted(bench.ports._by_holder) == []


def test_the_first_network_keeps_the_default_route(bench: CniBench) -> None:
    first = bench.add(conf("zz", subnet="10.61.0.0/24"))
    second = bench.add(conf("aa", subnet="10.62.0.0/24"), 1, "eth1")
    assert first["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.61.0.1"}]
    assert "routes" not in second
    bench.check(conf("zz", subnet="10.61.0.0/24"), first)
    bench.check(conf("aa", subnet="10.62.0.0/24"), second, 1, "eth1")
    assert len(bench.net.of_engine("cni")) == 1
    bench.call("DEL", conf("zz"))
    assert [e.is_default for e in bench.net.endpoints()] == [True]
    bench.call("DEL", conf("aa"), 1, "eth1")
    assert bench.net.of_engine("cni") == []


def test_a_network_may_leave_the_default_route_alone(bench: CniBench) -> None:
    result = bench.add(conf(isDefaultGateway=False))
    assert "routes" not in result
    assert ("route", "/run/netns/c1", "0.0.0.0/0") not in bench.kernel.things
    bench.check(conf(isDefaultGateway=False), result)
    with refused(7):
        bench.add(conf(isDefaultGateway=False, **ports((LOWEST, 80))), 2)


def test_a_second_interface_on_one_network_is_an_interface_only(bench: CniBench) -> None:
    bench.add(conf())
    second = bench.add(conf(), 1, "eth1")
    assert second["ips"][0]["address"] == "10.60.0.3/24"
    assert "routes" not in second
    assert second["dns"] == {}
    bench.check(conf(), second, 1, "eth1")
    named = [e.spec.names for e in bench.net.endpoints()]
    assert sorted(map(bool, named)) == [False, True]
    bench.call("DEL", conf())
    bench.check(conf(), second, 1, "eth1")
    bench.call("DEL", conf(), 1, "eth1")
    assert bench.attachments() == bench.net.endpoints() == []


def test_a_repeated_add_is_an_error_and_changes_nothing(bench: CniBench) -> None:
    result = bench.add(conf())
    before = bench.state()
    with refused(100):
        bench.add(conf())
    with refused(100):
        bench.add(conf("other", subnet="10.61.0.0/24"))  # eth0 is taken
    assert bench.state() == before  # without network other, either
    bench.check(conf(), result)


def test_the_next_run_of_a_container_replaces_what_the_last_one_left(bench: CniBench) -> None:
    bench.add(conf())
    bench.add(conf("two", subnet="10.61.0.0/24"), 1, "eth1")
    bench.end("c1")
    result = bench.add(conf())  # no DEL came
    assert bench.attachments() == [("1", "back", "eth0")]
    bench.check(conf(), result)
    bench.netns("elsewhere")
    with refused(100) as error:
        bench.add(conf("two", subnet="10.61.0.0/24"), 1, "eth1", CNI_NETNS="/run/netns/elsewhere")
    assert "another network namespace" in str(error.value)


def test_del_never_fails_for_what_is_not_there(bench: CniBench) -> None:
    bench.call("DEL", conf())
    bench.call("DEL", {**conf(), "subnett": 1}, CNI_NETNS="")
    bench.call("DEL", {"cniVersion": "1.0.0", "name": "back", "options": 7})
    bench.add(conf())
    bench.add(conf("two", subnet="10.61.0.0/24"), 1, "eth1")
    bench.end("c1")
    bench.call("DEL", conf(), CNI_NETNS="")
    bench.call("DEL", conf("two"), 1, "eth1", CNI_NETNS="")
    bench.call("DEL", conf("two"), 1, "eth1", CNI_NETNS="")
    assert bench.attachments() == bench.net.endpoints() == []
    assert bench.held() == 0


def test_check_lists_what_is_not_as_it_was(bench: CniBench) -> None:
    result = bench.add(conf(**ports((LOWEST, 80))))
    bench.check(conf(), result)
    address = bench.kernel.things["addr", "/run/netns/c1", "eth0", "10.60.0.2/24"]
    assert isinstance(address, Addr)
    bench.kernel.apply([Op(address, None)])
    published = f"--dport {LOWEST}"
    rule = next(r for r in bench.kernel.things.values() if published in str(r))
    bench.kernel.apply([Op(rule, None)])
    with refused(101) as error:
        bench.check(conf(), result)
    details = error.value.error["details"]
    assert "+ address 10.60.0.2/24 on eth0" in details
    assert published in details
    with refused(7):
        bench.call("CHECK", conf())
    with refused(101):
        bench.check(conf(), {**result, "ips": []})
    with refused(3):
        bench.check(conf(), result, 2)
    bench.end("c1")
    with refused(101) as error:
        bench.check(conf(), result)
    assert "not that of ADD any more" in str(error.value)


def test_gc_removes_what_the_runtime_does_not_know(bench: CniBench) -> None:
    for which in (1, 2, 3):
        bench.add(conf(), which)
    bench.add(conf("other", subnet="10.61.0.0/24"), 2, "eth1")
    bench.end("c3")
    valid = [{"containerID": IDS[0], "ifname": "eth0"}]
    bench.call("GC", conf(**{"cni.dev/valid-attachments": valid}))
    assert bench.attachments() == [("1", "back", "eth0"), ("2", "other", "eth1")]
    with refused(7):
        bench.call("GC", conf())
    bench.call("GC", conf(**{"cni.dev/attachments": []}))
    assert bench.attachments() == [("2", "other", "eth1")]


def test_status_says_whether_an_add_could_work(bench: CniBench) -> None:
    bench.call("STATUS", conf())
    assert [n.spec.name for n in bench.net.all()] == ["bridge", "host", "none"]
    for wrong in (conf(driver="nosuch"), conf("x", network="nosuch"),
                  conf(options={"com.docker.network.bridge.name": "///"})):  # fmt: skip
        with refused(50):
            bench.call("STATUS", wrong)


def test_it_comes_after_another_plugin_if_that_has_made_no_such_interface(bench: CniBench) -> None:
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "sandbox": "/run/netns/c1"}],
        "ips": [{"interface": 0, "address": "192.0.2.9/24"}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"search": ["example.org"]},
    }
    result = bench.add(conf(prevResult=before))
    assert [i["name"] for i in result["interfaces"]][::3] == ["net1", "eth0"]
    assert [ip["interface"] for ip in result["ips"]] == [0, 3]
    assert [r["dst"] for r in result["routes"]] == ["192.0.2.0/24", "0.0.0.0/0"]
    assert result["dns"] == {"search": ["example.org"], "nameservers": ["127.0.0.11"]}
    with refused(100):
        bench.add(conf(prevResult={"interfaces": [{"name": "eth0", "sandbox": "/x"}]}), 2)
    for wrong in (7, [], {"ips": 7}, {"interfaces": [7]}, {"dns": "x"}):
        with refused(7):
            bench.add(conf(prevResult=wrong), 2)


def test_dns_of_the_configuration_is_what_is_returned(bench: CniBench) -> None:
    asked = {"nameservers": ["192.0.2.53"], "search": ["example.org"]}
    assert bench.add(conf(dns=asked))["dns"] == asked
    runtime = {"dns": {"servers": ["192.0.2.54"], "searches": ["a.example"]}}
    found = bench.add(conf(dns=asked, runtimeConfig=runtime), 2)["dns"]
    assert found == {"nameservers": ["192.0.2.54"], "search": ["a.example"]}


def test_a_namespace_has_to_be_a_containers(bench: CniBench) -> None:
    with refused(3):
        bench.call("ADD", conf())
    bench.netns("c1")
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_NETNS": "/run/netns/c1",
           "CNI_IFNAME": "eth0"}  # fmt: skip
    code, error = bench.raw(env, '{"cniVersion":"1.0.0","name":"back"}', nsid="9:9")
    assert (code, error["code"], error["cniVersion"]) == (1, 3, "1.0.0")
    with refused(8):
        bench.nsid = lambda path: "5:5"  # type: ignore[method-assign]
        bench.cni = bench.service()
        bench.call("ADD", conf())
    assert bench.attachments() == []


def test_after_a_restart_what_lives_goes_on_and_the_rest_is_removed(bench: CniBench) -> None:
    results = [bench.add(conf(**ports((LOWEST + n, 80))), n) for n in (1, 2)]
    bench.add(conf(), 3)
    before = bench.state()
    bench.end("c3")
    bench.restart()
    assert bench.attachments() == [("1", "back", "eth0"), ("2", "back", "eth0")]
    assert bench.untrue() == []
    for which, result in zip((1, 2), results, strict=True):
        bench.check(conf(), result, which)
    assert bench.state() != before
    bench.call("DEL", conf(), 3)


def test_a_container_id_need_not_be_hexadecimal(bench: CniBench) -> None:
    bench.add(conf(), 1, CNI_CONTAINERID="pod_1.a-b")
    (box,) = bench.net.of_engine("cni")
    assert len(box.id) == 64
    assert [e.container for e in bench.net.endpoints()] == ["pod_1.a-b"]
    bench.call("DEL", conf(), 1, CNI_CONTAINERID="pod_1.a-b")
    assert bench.net.of_engine("cni") == []

"""The labs that bench.drivers measures, as documents."""

from __future__ import annotations


def switched(kind: str, *, tso: bool = True) -> dict[str, object]:
    """Two hosts and one network: vswitchd polls every port, so others on it would cost.

    `kind`: of tunnel, or "routed", or "vxlan-device" for that of the kernel's.
    """
    hosts = {}
    for n, far in ((1, 2), (2, 1)):
        net: dict[str, object] = {
            "driver": "ovs", "subnet": "10.50.0.0/24",
            "options": {"peers": f"10.0.0.{far}", "tunnel": kind},
        }  # fmt: skip
        if kind == "routed":
            routes = f"10.6{far}.0.0/24=10.0.0.{far}"
            net |= {"subnet": f"10.6{n}.0.0/24", "options": {"mode": "routed", "routes": routes}}
        if kind == "vxlan-device":
            options = {"peers": f"10.0.0.{far}", "tunnel": "vxlan", "vxlan-device": "kernel"}
            net["options"] = options
        on = ["net"] if kind == "routed" else {"net": f"10.50.0.1{n}"}
        hosts[f"h{n}"] = {
            "interfaces": {"eth0": {"segment": "lan", "address": f"10.0.0.{n}/24"}},
            "ovs": {"tso": tso}, "networks": {"net": net},
            "containers": {f"c{n}": {"networks": on}, f"other{n}": {}},
        }  # fmt: skip
    return {"summary": kind, "underlay": {"lan": {}}, "hosts": hosts}


def beside_outside(driver: str, ports: list[str], *, tso: bool = True) -> dict[str, object]:
    """A host with two containers, the second with published ports, and a host outside."""
    h1 = {
        "interfaces": {"eth0": {"segment": "lan", "address": "10.0.0.1/24"}},
        "ovs": {"tso": tso} if driver == "ovs" else False,
        "networks": {"net": {"driver": driver, "subnet": "10.50.0.0/24"}},
        "containers": {"c1": {"networks": ["net"]}, "c2": {"networks": ["net"], "ports": ports}},
    }
    h2 = {
        "interfaces": {"eth0": {"segment": "lan", "address": "10.0.0.2/24"}}, "daemon": False,
    }  # fmt: skip
    return {"summary": driver, "underlay": {"lan": {}}, "hosts": {"h1": h1, "h2": h2}}


def _setup(frames: bool | None) -> list[str]:
    """Commands of a host on which rules see, or do not see, what any bridge forwards."""
    setting = "net.bridge.bridge-nf-call-iptables"
    return [] if frames is None else [f"sysctl -qw {setting}={int(frames)}"]


def bridged(frames: bool | None = None) -> dict[str, object]:
    """`frames`: whether br_netfilter is on for all bridges; None: as the kernel has it."""
    host = {
        "setup": _setup(frames),
        "interfaces": {"eth0": {"segment": "lan", "address": "10.0.0.1/24"}},
        "networks": {"net": {"driver": "bridge"}},
        "containers": {"c1": {"networks": ["net"]}, "c2": {"networks": ["net"]}}
        | {"other1": {}, "other2": {}},
    }
    return {"summary": "one host", "underlay": {"lan": {}}, "hosts": {"h1": host}}


def on_segment(frames: bool | None = None) -> dict[str, object]:
    """`frames`: as with `bridged`."""
    lan = {
        "driver": "lan", "subnet": "10.211.55.0/24", "gateway": "10.211.55.1",
        "ip_range": "10.211.55.128/26", "options": {"parent": "eth0"},
    }  # fmt: skip
    h1 = {
        "setup": _setup(frames),
        "interfaces": {"eth0": {"segment": "lan", "address": "10.211.55.1/24"}},
        "networks": {"lan0": lan}, "containers": {"near": {"networks": ["lan0"]}},
    }  # fmt: skip
    setup = ["ip link add br0 type bridge", "ip link set eth0 master br0", "ip link set eth0 up",
             "ip link set br0 up", "ip addr add 10.211.55.5/24 dev br0",
             *_setup(frames)]  # fmt: skip
    h2 = {
        "interfaces": {"eth0": {"segment": "lan"}}, "setup": setup,
        "daemon": ["-b", "br0", "--fixed-cidr=10.211.55.192/26"],
        "containers": {"far": {}, "farther": {}},
    }  # fmt: skip
    return {"summary": "a segment", "underlay": {"lan": {}}, "hosts": {"h1": h1, "h2": h2}}


def plain_hosts(count: int, daemon: bool) -> dict[str, object]:
    def host(n: int) -> dict[str, object]:
        address = f"10.0.{n // 200}.{n % 200 + 1}/16"
        found: dict[str, object] = {"interfaces": {"eth0": {"segment": "lan", "address": address}}}
        return found if daemon else found | {"daemon": False}

    hosts = {f"h{n}": host(n) for n in range(1, count + 1)}
    return {"summary": "hosts", "underlay": {"lan": {}}, "hosts": hosts}

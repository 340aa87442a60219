"""2,000 generated calls, valid and not: the right answer, no half state, no traceback."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest

from netkit.frontends.cni import errors
from netkit.frontends.cni.conf import VERSIONS
from tests.unit.netkit.frontends.cni.cni_bench import IDS, CniBench, conf, ports
from tests.unit.netkit.network.fault_bench import LOWEST

CALLS = 2000
KNOWN = {v for k, v in vars(errors).items() if k.isupper()} - {errors.INTERNAL}
ODD: list[Any] = [None, True, 0, -1, 1 << 70, 1.5, "", "x", "\x00", "\ud800", "é" * 300, [],
                  [[]], {}, {"a": {}}, ["x", 7], [None], "10.60.0.9", "fd00::1", "10.60.0.0/24"
                  ]  # fmt: skip


def some_conf(r: Random) -> Any:
    names = ["back", "two", "three"]
    made: dict[str, Any] = conf(r.choice(names), r.choice(VERSIONS))
    if made["name"] != "back":
        made["subnet"] = {"two": "10.61.0.0/24", "three": "10.62.0.0/24"}[made["name"]]
    if r.random() < 0.4:
        made |= ports((LOWEST + r.randrange(6), 80), aliases={"back": ["db"]})
    if r.random() < 0.2:
        made.setdefault("runtimeConfig", {})["ips"] = [f"10.6{r.randrange(3)}.0.{r.randrange(256)}"]
    if r.random() < 0.2:
        made["isDefaultGateway"] = r.random() < 0.5
    if r.random() < 0.1:
        made["cni.dev/valid-attachments"] = [
            {"containerID": r.choice(IDS), "ifname": "eth0"} for _ in range(r.randrange(3))
        ]
    return made


def damaged(r: Random, made: dict[str, Any]) -> str:
    """One thing of it changed, or its text."""
    where: Any = made
    while True:
        key = r.choice(list(where)) if where and isinstance(where, dict) else None
        if key is None or not isinstance(where[key], dict) or r.random() < 0.5:
            break
        where = where[key]
    match r.randrange(6):
        case 0 if key is not None:
            where[key] = r.choice(ODD)
        case 1 if key is not None:
            del where[key]
        case 2:
            made[r.choice(["subnett", "bandwidth", "ipam", "prevResult", "args", "driver", "dns",
                           "options", "runtimeConfig", "network"])] = r.choice(ODD)  # fmt: skip
        case 3:
            made.setdefault("runtimeConfig", {})["bandwidth"] = {"ingressRate": 1}
        case 4:
            text = json.dumps(made)
            at = r.randrange(len(text))
            return text[:at] + r.choice(["", "{", '"', "\x00", "]", "é"]) + text[at + 1 :]
        case _:
            return r.choice(["", "null", "[]", "7", "[" * 5000, '{"a":' * 2000, "{}", "\ufeff{}"])
    return json.dumps(made)


def some_env(r: Random) -> tuple[dict[str, str], int]:
    which = r.randrange(1, 4)
    command = r.choice(["ADD"] * 5 + ["DEL"] * 4 + ["CHECK", "GC", "STATUS", "VERSION", "x"])
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": IDS[which - 1],
        "CNI_NETNS": f"/run/netns/c{which}",
        "CNI_IFNAME": r.choice(["eth0", "eth0", "eth1", "eth2"]),
        "CNI_ARGS": r.choice(["", "IgnoreUnknown=1;K8S_POD_NAME=web", "IP=10.60.0.200",
                              "MAC=02:42:00:00:00:09"]),
    }  # fmt: skip
    if r.random() < 0.2:
        key = r.choice(list(env))
        env[key] = r.choice(["", "x", "/", "../x", "é" * 30, "a b", "IP=x", "MAC=7", "FOO=1", ";;",
                             "eth0:1", "\ud800", "x" * 5000, "/run/netns/none"])  # fmt: skip
        if r.random() < 0.3:
            del env[key]
    return env, which


@pytest.mark.slow
def test_generated_calls(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    b, r, ended = CniBench(memory / "db"), Random(14), {"0": 0}
    for which in (1, 2, 3):
        b.netns(f"c{which}")
    with caplog.at_level(logging.ERROR):
        for number in range(CALLS):
            env, _ = some_env(r)
            made = some_conf(r)
            text = json.dumps(made) if r.random() < 0.5 else damaged(r, made)
            before = b.state()[:2], b.attachments()
            code, shown = b.raw(env, text)
            about = f"{number}: {env} {text[:400]}: {shown}"
            if code:
                assert shown["cniVersion"] in VERSIONS, about
                assert shown["code"] in KNOWN, about
                assert shown["msg"], about
                assert shown["msg"].isprintable(), about
                assert (b.state()[:2], b.attachments()) == before, about
            elif env["CNI_COMMAND"] == "ADD":
                assert shown["cniVersion"] == json.loads(text)["cniVersion"], about
            key = str(shown["code"] if code else 0)
            ended[key] = ended.get(key, 0) + 1
            if r.random() < 0.02:
                b.restart()
    assert caplog.records == []
    assert ended["0"] > CALLS / 8, ended
    assert {"2", "4", "6", "7", "100"} <= ended.keys(), ended
    for container, name, ifname in b.attachments():
        b.call("DEL", conf(name), IDS.index(container * 64) + 1, ifname)
    assert (b.attachments(), b.net.of_engine("cni"), b.held()) == ([], [], 0)
    b.stop()

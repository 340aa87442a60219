"""Each key of the formats' documentation is carried over, or listed with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from netkit.lab.foreign import compose, containerlab, kathara
from netkit.lab.foreign.draft import Draft
from netkit.lab.reading import parsed
from tests.unit.netkit.lab.foreign import keys


def clab(node: dict[str, Any], link: dict[str, Any] | None = None, **top: Any) -> Draft:
    ends = (link or {}).get("endpoints", ["a:eth1", "b:eth1"])
    document = {
        "name": "x", **top,
        "topology": {"nodes": {"a": node, "b": {}}, "links": [{**(link or {}), "endpoints": ends}]},
    }  # fmt: skip
    return containerlab.read(yaml.safe_dump(document), "x.clab.yml")


def composed(service: dict[str, Any], **top: Any) -> Draft:
    services = {"web": {"image": "busybox", **service}, "other": {"image": "busybox"}}
    return compose.read(yaml.safe_dump({"services": services, **top}), "compose.yaml", {})


def conf(line: str) -> Draft:
    return kathara.read({"lab.conf": f"pc1[0]=A\n{line}\n"}, [], "k")


def cases() -> Iterator[tuple[str, Draft, Draft]]:
    """The key, a lab with it, the same without it."""
    for key in keys.CLAB_TOP:
        yield f"{key}", clab({}, **{key: {"a": "b"}}), clab({})
    for key in keys.CLAB_NODE:
        yield f"a.{key}", clab({key: keys.CLAB_VALUES.get(key, "value")}), clab({})
    for key, value in keys.CLAB_LINK.items():
        yield f"links[0].{key}", clab({}, {key: value}), clab({})
    for key, value in keys.CLAB_END.items():
        ends = [{"node": "a", "interface": "eth1"}, {"node": "b", "interface": "eth1"}]
        more = [{**ends[0], key: value}, ends[1]]
        yield f"endpoints[0].{key}", clab({}, {"endpoints": more}), clab({}, {"endpoints": ends})
    for key in keys.KATHARA:
        yield f"pc1[{key}]", conf(f"pc1[{key}]=value"), conf("")
    for name in keys.KATHARA_META:
        yield f"LAB_{name}", conf(f"LAB_{name}=value"), conf("")
    yield from compose_cases()


def compose_cases() -> Iterator[tuple[str, Draft, Draft]]:
    for key in keys.COMPOSE_TOP:
        yield key, composed({}, **{key: {"a": "b"}}), composed({})
    for key in keys.COMPOSE_SERVICE:
        value = keys.COMPOSE_VALUES.get(key, {"a": "b"})
        yield f"web.{key}", composed({key: value}), composed({})
    ipam = {"ipam": {"config": [{"subnet": "10.9.0.0/24"}]}}
    for key, value in keys.COMPOSE_NETWORK.items():
        yield (
            f"n.{key}",
            composed({}, networks={"n": {key: value}}),
            composed({}, networks={"n": {}}),
        )
    plain = composed({"networks": {"n": {}}}, networks={"n": ipam})
    for key, value in keys.COMPOSE_JOIN.items():
        yield f"n.{key}", composed({"networks": {"n": {key: value}}}, networks={"n": ipam}), plain
    mounted = {"volumes": ["v:/x"]}
    for key, value in keys.COMPOSE_VOLUME.items():
        with_it = composed(mounted, volumes={"v": {key: value}})
        yield f"v.{key}", with_it, composed(mounted, volumes={"v": None})


CASES = [*cases()]


@pytest.mark.parametrize(("key", "draft", "plain"), CASES, ids=[c[0] for c in CASES])
def test_a_key_makes_a_difference_in_the_lab_or_in_the_list(
    key: str, draft: Draft, plain: Draft
) -> None:
    notes = [note for note in draft.omitted if key in note]
    assert draft.document() != plain.document() or notes, f"{key} is lost: {draft.omitted}"
    assert all(note.count(":") >= 2 for note in notes), "without its place"
    parsed(draft.text(), "imported")


def test_parts_of_a_key_are_listed_by_themselves() -> None:
    draft = composed({}, networks={"n": keys.COMPOSE_NETWORK})
    listed = "\n".join(draft.omitted)
    for part in ("ipam.driver", "ipam.options", "aux_addresses", "driver_opts", "labels"):
        assert f"networks.n.{part}" in listed or f"config[0].{part}" in listed
    assert draft.document()["hosts"]["h1"]["networks"]["n"] == {
        "internal": True, "subnet": "10.9.0.0/24", "gateway": "10.9.0.1", "ip_range": "10.9.0.0/25",
    }  # fmt: skip

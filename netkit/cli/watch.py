"""net watch: all networks and endpoints, then each change of them by any engine or command."""

from __future__ import annotations

import time

from netkit.cli import human, table
from netkit.cli.commands import NONE, command
from netkit.cli.flags import Options, switch, text
from netkit.cli.values import duration
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netkit.cli.session import Session
    from netkit.client.engine import Json

PATH = "/netkit/watch"


@command(
    "[OPTIONS]", NONE,
    text("format", "'json', or nothing for text"),
    text("interval", "Time between looks, as 500ms or 2s", default="1s"),
    switch("traffic", "Show what endpoints receive and send in each interval"),
)  # fmt: skip
def watch(session: Session, options: Options) -> None:
    query = {"interval": f"{_seconds(options.text('interval')):g}"}
    if options.flag("traffic"):
        query["traffic"] = "1"
    as_json, names = table.wants_json(options), Names()
    if as_json:
        import json
    answer = session.engine.stream("GET", PATH, query)
    for found in session.engine.objects(answer):
        for line in [json.dumps(found)] if as_json else names.lines(found):
            print(line, flush=True)


def _seconds(given: str) -> float:
    try:
        return duration(given) / 1e9
    except ValueError as error:
        raise Misuse(f"invalid --interval {given}: {error}", 1) from None


class Names:
    """What lines are about, by the ids in them."""

    def __init__(self) -> None:
        self._networks: dict[str, Json] = {}
        self._endpoints: dict[str, Json] = {}
        self._repaired: dict[str, int] = {}

    def lines(self, found: Json) -> Iterator[str]:
        """Each begins with the time; then + for what is new, ~ changed, - removed."""
        at = time.strftime("%H:%M:%S", time.localtime(found["TimeNano"] / 1e9))
        if found["Type"] == "problem":
            yield f"{at} ! {found['Message']}"
        elif found["Type"] == "traffic":
            yield from (f"{at}   {line}" for line in self._traffic(found))
        else:
            yield from (f"{at} {line}" for line in self._changes(found))

    def _changes(self, found: Json) -> Iterator[str]:
        networks, endpoints = (found.get(part, {}) for part in ("Networks", "Endpoints"))
        for id in [id for id, now in endpoints.items() if now is None]:
            yield f"- {self._endpoint(self._endpoints.pop(id))}"
        for id, now in networks.items():
            sign = "-" if now is None else "~" if id in self._networks else "+"
            shown = self._networks.pop(id, {}) if now is None else now
            if now is not None:
                self._networks[id] = now
            yield f"{sign} {_network(shown)}"
        for id, now in endpoints.items():
            if now is not None:
                sign = "~" if id in self._endpoints else "+"
                self._endpoints[id] = now
                yield f"{sign} {self._endpoint(now)}"
        for part, count in found.get("Repaired", {}).items():
            before, self._repaired[part] = self._repaired.get(part, 0), count
            if found["Type"] == "change":
                yield f"! repaired what another tool had changed: {part}, {count - before}"

    def _endpoint(self, endpoint: Json) -> str:
        network = self._networks.get(endpoint["Network"], {}).get("Name", endpoint["Network"][:12])
        words = [f"endpoint {_owner(endpoint)} on {network}", *endpoint["Addresses"]]
        words += [_port(p) for p in endpoint["Ports"] if p["HostPort"]]
        return " ".join(words)

    def _traffic(self, found: Json) -> Iterator[str]:
        seconds = max(found["Seconds"], 0.001)
        for id, moved in found["Endpoints"].items():
            endpoint = self._endpoints.get(id)
            if endpoint is None:
                continue
            rates = (human.size(moved[f"{way}Bytes"] / seconds) for way in ("Receive", "Transmit"))
            dropped = moved["ReceiveDropped"] + moved["TransmitDropped"]
            line = "received {}/s, sent {}/s".format(*rates)
            yield f"{_owner(endpoint)}: {line}" + (f", {dropped} dropped" if dropped else "")


def _network(network: Json) -> str:
    subnets = [s["Subnet"] for s in network["Subnets"]]
    peers = [f"peer {p['IP']}" for p in network["Peers"]]
    return " ".join([f"network {network['Name']} ({network['Driver']})", *subnets, *peers])


def _owner(endpoint: Json) -> str:
    name = endpoint["Container"] or endpoint["ContainerID"][:12]
    return name if endpoint["Engine"] == "netkit" else f"{name} of {endpoint['Engine']}"


def _port(port: Json) -> str:
    host = port["HostIP"] or "0.0.0.0"
    return f"{host}:{port['HostPort']}->{port['ContainerPort']}/{port['Protocol']}"

"""Implement the API's calls on the weave overlay of this host."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from netkit.errors import Conflict, Forbidden, InvalidSpec, KernelError, NetkitError, NotFound
from netkit.network.address_requests import in_other_subnets, parse
from netkit.network.overlay_networks import OverlayNetwork, OverlayNetworks
from netkit.overlay import verbs
from netkit.overlay.client import ABSENT
from netkit.spec import CreatedNetwork, NetworkRecord, NetworkSpec, SubnetSpec
from runtime.network.weave import launching
from runtime.network.weave.addresses import AllocatedAddresses, ident_of
from runtime.network.weave.attaching import Attaching, Containers
from runtime.network.weave.desired import network
from runtime.network.weave.exposing import Exposing, Naming
from runtime.network.weave.following import Following
from runtime.network.weave.launching import HostRoute
from runtime.network.weave.remote_members import RemoteMembers
from runtime.network.weave.requests import (
    AttachRequest,
    DetachRequest,
    DnsRequest,
    ExposeRequest,
    HideRequest,
    LaunchRequest,
)
from runtime.network.weave.shown import shown
from runtime.network.weave.warning_log import WarningLog

DECISION = 20.0  # seconds for other hosts to agree to a removal
MEETING = 4.0  # seconds that a launch waits for peers
LOOK = 0.2  # seconds between two looks at them
LEAVING = 30.0  # seconds in which all containers have to be off a network that is removed
GIVING = 10.0  # seconds in which a host that leaves gives its addresses to others

log = logging.getLogger("netkit.weave")
R = TypeVar("R")


class Networks(Protocol):
    """Networks as the API makes and removes them, with events."""

    def create(self, spec: NetworkSpec) -> CreatedNetwork: ...

    def reconfigure(
        self, ref: str, options: Mapping[str, str], *, gateway: str = ""
    ) -> NetworkRecord: ...

    def remove(self, ref: str) -> object: ...
    def find(self, ref: str) -> NetworkRecord: ...
    def all(self) -> list[NetworkRecord]: ...


class WeaveService:
    """Implements ports.Weave.  `start` once all networks are restored.

    `routes` returns routes of the host, without default routes.
    """

    def __init__(
        self, addresses: AllocatedAddresses, networks: Networks, host: OverlayNetworks,
        containers: Containers, routes: Callable[[], Iterable[HostRoute]], members: RemoteMembers,
    ) -> None:  # fmt: skip
        self._overlay = addresses.overlay
        self._networks, self._host, self._routes = networks, host, routes
        self._operations = threading.RLock()  # of launch, stop and reset there is one at a time
        self.following = Following(self._overlay, host)
        self.following.on_sync.append(addresses.agree)
        self.following.on_event.append(self._on_event)
        self._members = members
        members.changed = self.following.notify
        self.following.on_sync.append(members.on_sync)
        self.following.on_event.append(members.on_event)
        self.following.on_sync.append(WarningLog().on_sync)
        addresses.connect(host, self.following.notify, lambda: self.following.unable)
        self._containers = containers
        self._attaching = Attaching(host, containers)
        self._exposing = Exposing(
            host, self._attaching, addresses, networks.reconfigure, self.call
        )
        self._naming = Naming(host, self._attaching, containers, self.call)
        self.ps = self._attaching.ps
        self._leaving = False  # in a reset

    def start(self) -> None:
        self._host.tidy()
        if self._overlay.launched:
            self._follow()
        else:
            self._members.clear()

    def _follow(self) -> None:
        self.following.start()
        self._members.start()

    def _unfollow(self) -> None:
        """The overlay is there no more."""
        self.following.stop()
        self._members.stop()
        self._members.clear()

    def keeps(self, record: NetworkRecord) -> bool:
        """Whether it is the network that `launch` made, which containers may join any time."""
        return launching.LABEL in record.spec.labels and self._overlay.launched

    def as_elsewhere(self, spec: NetworkSpec) -> NetworkSpec:
        """With the subnet that a network of this name has on other hosts, if none is given."""
        overlay = spec.driver == self._host.driver
        if not overlay or spec.subnets or not self._overlay.running:
            return spec
        try:
            subnets = self.call(verbs.SubnetsOf(name=spec.name))
        except NetkitError:
            return spec  # it does not run, or does not answer: as on one host
        found = launching.subnet_of(subnets)
        return replace(spec, subnets=(SubnetSpec(subnet=found),)) if found else spec

    def close(self) -> None:
        """Stop following; the process runs on, and so do connections between containers."""
        self.following.stop()
        self._members.stop()

    # -- looking ---------------------------------------------------------------------------------

    def status(self, patience: float | None = None) -> dict[str, Any]:
        """`patience`: seconds for the process to answer, if not the usual ones."""
        warnings = list(self._warnings())
        found: dict[str, Any] = {}
        try:
            found = self._overlay.call(verbs.Status(), patience)
        except NotFound:
            pass
        except KernelError as error:
            warnings.append(str(error))
        return {
            "Running": bool(found),
            "Launched": self._overlay.launched,
            "Status": shown(found["overlay"]) if found else None,
            "Process": shown(found["process"]) if found else None,
            "DefaultSubnet": self._default_subnet(),
            "Warnings": [*warnings, *self._other_range(found)],
        }

    def report(self) -> dict[str, Any]:
        found = shown(self.call(verbs.Report()))
        warnings = [*self._warnings(), *self._other_range(found)]
        return {**found, "DefaultSubnet": self._default_subnet(), "Warnings": warnings}

    def _warnings(self) -> Iterable[str]:
        return [f"{what}: {why}" for what, why in sorted(self.following.problems.items())]

    def _default_subnet(self) -> str:
        """Of network weave; "": there is none."""
        try:
            return str(self._attaching.default().config.subnets[0].cidr)
        except NotFound:
            return ""

    def _other_range(self, found: Mapping[str, Any]) -> Iterable[str]:
        """Of a host that joined peers which were launched with another range."""
        range_ = found["overlay"]["ipam"]["range"] if found else None
        with suppress(NotFound):
            lane = self._attaching.default()
            mine = launching.range_of(lane.record)
            if range_ not in (None, mine):
                yield (
                    f"the overlay's range is {range_}, this host was launched with {mine}: netkit "
                    f"weave reset, and launch again with --ipalloc-range {range_}"
                )

    def call(self, verb: verbs.Known) -> Any:
        """Ask the process.  NotFound: it does not run."""
        return self._overlay.call(verb)

    # -- coming and going ------------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> dict[str, Any]:
        with self._operations:  # what is resumed is that of a stop which may be under way
            request, former = launching.resumed(request, self._overlay)
            spec = launching.network_spec(request, self._host.driver)
            settings = launching.settings_of(request, spec.labels[launching.RANGE_LABEL], former)
            if self._overlay.launched or self._overlay.running:
                raise Conflict("the weave overlay runs on this host already: netkit weave stop")
            record, made, warnings = self._network(request, spec)
            range_ = launching.range_of(record)
            try:
                with self.following.turns:
                    self._overlay.launch(launching.within(settings, range_))
            except BaseException:
                if made:
                    with suppress(NetkitError):
                        self._networks.remove(record.id)
                raise
            self._follow()
        self.following.settle()
        status = self._met() if settings.peers else self.status()
        without = launching.without_range(status)
        return {**status, "Warnings": [*warnings, *status["Warnings"], *without]}

    def _met(self) -> dict[str, Any]:
        """The status as soon as peers were met that have a range, or have none either."""
        until = time.monotonic() + MEETING
        while True:
            status = self.status()
            over = time.monotonic() >= until or not launching.without_range(status)
            if over or status["Status"]["warnings"]:
                return status
            time.sleep(LOOK)

    def _network(
        self, request: LaunchRequest, spec: NetworkSpec
    ) -> tuple[NetworkRecord, bool, list[str]]:
        """The network of `weave run`: (its record, whether it was made now, warnings)."""
        with suppress(NotFound):
            record = self._networks.find(spec.name)
            if record.spec.name == spec.name:  # not one whose id begins so
                launching.same_network(request, spec, record)
                return record, False, []
        bridges = {each.ports.bridge for each in self._host.all()}  # networks may be inside of it
        routes = [route for route in self._routes() if route.device not in bridges]
        overlap = launching.overlap(spec, routes)
        if overlap and not request.range:
            raise Conflict(f"{overlap}: give all hosts another one, --ipalloc-range")
        if overlap:
            log.warning("weave: %s", overlap)
        made = self._networks.create(spec)
        return made.record, True, [*([overlap] if overlap else []), *made.warnings]

    def stop(self) -> None:
        with self._operations:
            with self.following.turns:
                self._overlay.stop(self._described())
            self._unfollow()

    def reset(self, *, force: bool = False) -> list[str]:
        taken_off: set[str] = set()
        with self._operations:
            self._leaving = True
            try:
                with self.following.turns:
                    self._overlay.reset(0.0 if force else GIVING, self._described())
                self._unfollow()
            finally:
                self._leaving = False
            with suppress(NotFound):
                self._remove(self._host.find(self._host.driver), taken_off)
        return sorted(taken_off)

    def _remove(self, lane: OverlayNetwork, taken_off: set[str]) -> None:
        """Take all containers off a network and remove it.  Forbidden: more and more come.

        One that is being attached has to be on it first, and one that is being removed leaves it
        by itself.
        """
        until = time.monotonic() + LEAVING
        while True:
            for id in self._host.members(lane.record.id):
                with suppress(NotFound, InvalidSpec, Conflict):  # it has left, or is about to
                    name = self._containers.find(id).name
                    self._containers.disconnect(id, lane.record.id, force=True)
                    taken_off.add(name)
            try:
                self._networks.remove(lane.record.id)
            except Forbidden:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK)
            else:
                return

    def _described(self) -> list[verbs.Network]:
        return [network(each) for each in self._host.all()]

    # -- peers -----------------------------------------------------------------------------------

    def connect(self, peers: Sequence[str], *, replace: bool = False) -> None:
        self._must_run()
        self.call(verbs.Connect(peers=launching.peers_of(peers), replace=replace))

    def forget(self, peers: Sequence[str]) -> None:
        if not peers:
            raise InvalidSpec("Peers are needed: those that are not to be connected to any more")
        launching.check_peers(peers)
        self.call(verbs.Forget(peers=tuple(peers)))

    def rmpeer(self, peer: str, *, force: bool = False) -> dict[str, Any]:
        if not 0 < len(peer) <= 253:
            raise InvalidSpec("Peer is needed: its nickname, or the beginning of its id")
        count = self.call(verbs.RmPeer(peer=peer, force=force, seconds=DECISION))
        return {"Addresses": count, "Text": f"{count} IPs taken over from {peer}"}

    def prime(self) -> None:
        self.call(verbs.Prime())

    def _must_run(self) -> None:
        """Before names of hosts are looked up."""
        if not self._overlay.running:
            raise NotFound(ABSENT)

    # -- this host and its containers ------------------------------------------------------------

    def address_warnings(self, addresses: Sequence[str]) -> list[str]:
        try:
            lane = self._attaching.default().record
        except NotFound:  # it was removed since
            return []
        return in_other_subnets(parse(addresses), lane, self._networks.all())

    def attach(self, request: AttachRequest) -> list[str]:
        return self._done(self._attaching.attach, request)

    def detach(self, request: DetachRequest) -> list[str]:
        return self._done(self._attaching.detach, request)

    def expose(self, request: ExposeRequest) -> list[str]:
        return self._done(self._exposing.expose, request)

    def hide(self, request: HideRequest) -> list[str]:
        return self._done(self._exposing.hide, request)

    def add_name(self, request: DnsRequest) -> None:
        self._must_run()
        self._naming.add(request)

    def remove_name(self, request: DnsRequest) -> None:
        self._must_run()
        self._naming.remove(request)

    def lookup(self, name: str) -> dict[str, list[str]]:
        return self._naming.lookup(name)

    def _done(self, act: Callable[[R], list[str]], request: R) -> list[str]:
        """Where others see the outcome when the call returns."""
        self._must_run()
        found = act(request)
        self.following.settle()
        return found

    # -- what it reports -------------------------------------------------------------------------

    def _on_event(self, event: dict[str, Any]) -> None:
        # In a reset this host gives them away: containers leave network weave in order then, with
        # their settings, and on others they go on on this host.
        if event.get("event") == "address lost" and not self._leaving:
            self._evict(str(event["ident"]), str(event["address"]))

    def _evict(self, ident: str, address: str) -> None:
        """Take a container off its network: its address is another host's by now."""
        for endpoint in self._host.endpoints():
            has = any(each.partition("/")[0] == address for each in endpoint.addresses)
            if has and ident == ident_of(endpoint.network, endpoint.sandbox):
                log.error(
                    "weave: container %s loses %s: it belongs to another host by now; connect the "
                    "container again, or restart it: it gets another one",
                    endpoint.owner_name, address,
                )  # fmt: skip
                self._host.evict(endpoint.id)

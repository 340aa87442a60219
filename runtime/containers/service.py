"""Implements ports.Containers: looks up, checks, and hands on to the part that does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from random import SystemRandom
from typing import Any, BinaryIO

import msgspec

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.spec import NetworkRecord
from runtime.clock import epoch_ns, parse_moment, rfc3339
from runtime.containers import create, linking, names, restart, waiting
from runtime.containers.bundle import Bundler
from runtime.containers.config import CreateRequest, EndpointSettings, HostConfig
from runtime.containers.joining import endpoint_spec, network_settings
from runtime.containers.launch import Launcher
from runtime.containers.lifecycle import Lifecycle
from runtime.containers.looking import Looking
from runtime.containers.model import Container
from runtime.containers.portspec import parse_bindings
from runtime.containers.store import ContainerStore
from runtime.containers.talking import Talking
from runtime.ports import Filters
from runtime.ports.containers import Attachment, AttachOptions, LogOptions, PathStat, UpdateRequest
from runtime.ports.images import Images

_UPDATABLE = {
    "CpuShares", "Memory", "NanoCpus", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems",
    "MemoryReservation", "MemorySwap", "PidsLimit", "RestartPolicy", "BlkioWeight",
    "CpuRealtimePeriod", "CpuRealtimeRuntime", "KernelMemory",
}  # fmt: skip


class ContainerService:
    def __init__(
        self,
        store: ContainerStore,
        images: Images,
        lifecycle: Lifecycle,
        launcher: Launcher,
        talking: Talking,
        looking: Looking,
        bundler: Bundler,
    ) -> None:
        self._store = store
        self._images = images
        self._life = lifecycle
        self._launcher = launcher
        self._talking = talking
        self._looking = looking
        self._bundler = bundler
        self._random = SystemRandom()

    def create(self, request: CreateRequest, name: str | None) -> tuple[str, list[str]]:
        image = self._images.find(request.image)
        id = f"{self._random.getrandbits(256):064x}"
        chosen = names.checked(name) if name else names.invented(
            self._random, self._store.name_free
        )  # fmt: skip
        wanted = create.prepare(request, image.config, id)
        c = Container(
            id=id,
            name=chosen,
            created=rfc3339(),
            image=image.id,
            config=wanted.config,
            host_config=wanted.host_config,
            networks=wanted.networks,
            mounts=wanted.mounts,
        )
        linking.attach(c, self._store.find)
        exposed = list(c.config.exposed_ports or {})
        parse_bindings(c.host_config.port_bindings, exposed, c.host_config.publish_all_ports)
        self._check_networks(c)
        warnings = [*wanted.warnings, *self._bundler.check(c)]
        self._life.make(c)
        return id, warnings

    def _check_networks(self, c: Container) -> None:
        """Networks exist and take what is asked of them; the target of container: exists."""
        mode = c.host_config.network_mode
        try:
            if mode.startswith("container:"):
                self._store.find(mode.partition(":")[2])
            self._check_each_network(c)
        except NotFound as e:
            # 404 would make the stock client pull the image
            raise InvalidSpec(str(e)) from e

    def _check_each_network(self, c: Container) -> None:
        seen: set[str] = set()
        for wanted, settings in c.networks.items():
            record = self._launcher.network(wanted)
            if record.id in seen:
                raise InvalidSpec(f'network "{wanted}" is specified multiple times')
            seen.add(record.id)
            endpoint_spec(c, settings, record)

    def find(self, ref: str) -> Container:
        return self._store.find(ref)

    def all(self) -> list[Container]:
        return self._store.all()

    def start(self, ref: str) -> bool:
        return self._life.start(ref)

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> bool:
        return self._life.stop(ref, timeout, signal)

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        self._life.restart(ref, timeout, signal)

    def kill(self, ref: str, signal: str = "KILL") -> None:
        self._life.kill(ref, signal)

    def pause(self, ref: str) -> None:
        self._life.pause(ref)

    def unpause(self, ref: str) -> None:
        self._life.unpause(ref)

    def rename(self, ref: str, name: str) -> None:
        if not name:
            raise InvalidSpec("Neither old nor new names may be empty")
        c = self._store.find(ref)
        new = names.checked(name)
        old = c.name
        if new == old:
            raise InvalidSpec("Renaming a container with the same name as its current name")
        with self._life.lock(c.id):
            self._store.rename(c, new)
            self._launcher.renamed(c)
        self._retell_links(c)
        self._life.emit(c, "rename", oldName=f"/{old}")

    def update(self, ref: str, request: UpdateRequest) -> list[str]:
        c = self._store.find(ref)
        given = set(request.given)
        if unknown := sorted(given & set(_host_fields()) - _UPDATABLE):
            raise InvalidSpec(f"{unknown[0]} of a container cannot be updated")
        with self._life.lock(c.id):
            new = msgspec.structs.replace(c.host_config)
            for field in msgspec.structs.fields(HostConfig):
                value = getattr(request, field.name)
                if field.encode_name in given & _UPDATABLE and _says(field.encode_name, value):
                    setattr(new, field.name, value)
            restart.check(new.restart_policy, new.auto_remove)
            warnings = self._bundler.check_resources(new)
            if c.state.alive:
                self._looking.apply_resources(c, new)
            c.host_config = new
            self._store.save(c)
        self._life.emit(c, "update")
        return warnings

    def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        if link:
            self._unlink(ref)
            return
        self._life.remove(ref, force=force)  # volumes: there are none to remove

    def _unlink(self, ref: str) -> None:
        """`rm --link PARENT/ALIAS`: the containers stay, the way between them goes."""
        name, _, alias = ref.removeprefix("/").rpartition("/")
        c = self._store.find(name) if name else None
        if c is None or alias not in linking.of(c):
            raise NotFound(f"no such link: {ref}: give it as PARENT/ALIAS")
        with self._life.lock(c.id):
            c.extra[linking.LINKS] = {a: id for a, id in linking.of(c).items() if a != alias}
            c.host_config.links = None
            linking.retell(c, self._store.find)
            self._store.save(c)
            self._launcher.relinked(c)

    def _retell_links(self, changed: Container) -> None:
        """A container has another name: those that link to it, and itself, say so."""
        for c in self._store.all():
            if linking.of(c) and (c is changed or changed.id in linking.of(c).values()):
                with self._life.lock(c.id):
                    linking.retell(c, self._store.find)
                    self._store.save(c)
                    self._launcher.relinked(c)

    def prune(self, filters: Filters) -> tuple[list[str], int]:
        removed, freed = [], 0
        for c in self._store.all():
            if c.state.status in {"created", "exited", "dead"} and _prunable(c, filters):
                size = self._looking.sizes(c)[0]
                try:
                    self._life.remove(c.id, force=False)
                except Conflict:
                    continue  # somebody started or removed it meanwhile
                removed.append(c.id)
                freed += size
        return removed, freed

    def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        c = self._life.must_run(ref)
        result = self._looking.top(c, ps_args)
        self._life.emit(c, "top")
        return result

    def changes(self, ref: str) -> list[tuple[str, int]]:
        return self._looking.changes(self._store.find(ref))

    def sizes(self, ref: str) -> tuple[int, int]:
        return self._looking.sizes(self._store.find(ref))

    def resize(self, ref: str, height: int, width: int) -> None:
        c = self._life.must_run(ref)
        self._looking.resize(c, height, width)
        self._life.emit(c, "resize", height=str(height), width=str(width))

    def export(self, ref: str) -> Iterator[bytes]:
        c = self._store.find(ref)
        stream = self._looking.export(c)
        self._life.emit(c, "export")
        return stream

    def stat_path(self, ref: str, path: str) -> PathStat:
        return self._looking.stat_path(self._store.find(ref), path)

    def get_archive(self, ref: str, path: str) -> tuple[PathStat, Iterator[bytes]]:
        c = self._store.find(ref)
        result = self._looking.get_archive(c, path)
        self._life.emit(c, "archive-path")
        return result

    def put_archive(
        self, ref: str, path: str, tar: BinaryIO, *, no_overwrite_dir: bool, copy_uid_gid: bool
    ) -> None:
        c = self._store.find(ref)
        self._looking.put_archive(c, path, tar, no_overwrite_dir, copy_uid_gid)
        self._life.emit(c, "extract-to-dir")

    def stats(self, ref: str) -> dict[str, Any]:
        return self._looking.stats(self._store.find(ref))

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        c = self._store.find(ref)
        record = self._launcher.network(network)
        with self._life.lock(c.id):
            self._check_connect(c, record)
            if self._wish_for(c, record) is not None:
                raise Conflict(
                    f"endpoint with name {c.name} already exists in network {record.spec.name}"
                )
            endpoint_spec(c, settings, record)
            if c.state.alive:
                self._launcher.connect(c, record, settings)
            c.networks[record.spec.name] = settings
            if c.host_config.network_mode == "none":
                c.networks.pop("none", None)
            self._store.save(c)

    def _check_connect(self, c: Container, record: NetworkRecord) -> None:
        mode = c.host_config.network_mode
        if mode.startswith("container:"):
            raise InvalidSpec("container sharing network namespace with another container or host "
                              "cannot be connected to any other network")  # fmt: skip
        if "host" in {mode, record.spec.driver}:
            raise InvalidSpec(
                "container cannot be connected to host network or disconnected from it"
            )
        if record.spec.driver == "null":
            raise InvalidSpec("container cannot be connected to multiple networks with one of "
                              "the networks in private (none) mode")  # fmt: skip

    def _wish_for(self, c: Container, record: NetworkRecord) -> str | None:
        """The word by which the container asks for this network: its name or (part of) its id."""
        for word in c.networks:
            if word == record.spec.name or record.id.startswith(word):
                return word
        return None

    def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        record = self._launcher.network(network)
        try:
            c = self._store.find(ref)
        except Exception:
            if force and self._launcher.forget_endpoint(record, ref):
                return
            raise
        with self._life.lock(c.id):
            if "host" in {c.host_config.network_mode, record.spec.driver}:
                raise InvalidSpec("container cannot be disconnected from host network or "
                                  "connected to host network")  # fmt: skip
            word = self._wish_for(c, record)
            if word is None:
                raise InvalidSpec(
                    f"container {c.id} is not connected to network {record.spec.name}"
                )
            if c.state.alive:
                self._launcher.disconnect(c, record)
            c.networks.pop(word)
            self._store.save(c)

    def network_settings(self, ref: str) -> dict[str, Any]:
        c = self._store.find(ref)
        live, networks, ns = self._launcher.joined(c)
        return network_settings(c, live, networks, ns)

    def waiter(self, ref: str, condition: str) -> Awaitable[tuple[int, str]]:
        c = self._store.find(ref)
        wish = waiting.checked(condition)
        # No lock: this runs on the event loop.  First registered, then looked: an end in between
        # resolves the future twice, which is harmless; one before is seen by looking.
        future = self._life.waiters.add(c.id, wish)
        ended = not c.state.alive and c.state.status != "restarting"
        if (wish == "not-running" and ended) or self._store.get(c.id) is None:
            self._life.waiters.resolve(c.id, (c.state.exit_code, c.state.error), wish)
        return future

    def attach(self, ref: str, options: AttachOptions) -> Attachment:
        c = self._store.find(ref)
        if c.state.status == "paused":
            raise Conflict(f"container {c.id} is paused, unpause the container before attach")
        if c.state.status == "restarting":
            raise Conflict(f"container {c.id} is restarting, wait until the container is running")
        return self._talking.attachment(c, options)

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[tuple[int, bytes]]:
        return self._talking.logs(self._store.find(ref), options)


def _host_fields() -> list[str]:
    return [f.encode_name for f in msgspec.structs.fields(HostConfig)]


def _says(name: str, value: object) -> bool:
    """Does a field of an update say anything?  The stock client sends zeroes for "leave it"."""
    if name == "RestartPolicy":
        return bool(getattr(value, "name", ""))
    if name == "PidsLimit":
        return value is not None
    return bool(value)


def _prunable(c: Container, filters: Filters) -> bool:
    labels = c.config.labels or {}

    def has(text: str) -> bool:
        key, eq, value = text.partition("=")
        return key in labels and (not eq or labels[key] == value)

    if unknown := set(filters) - {"until", "label", "label!"}:
        raise InvalidSpec(f"invalid filter '{sorted(unknown)[0]}'")
    if not all(has(t) for t in filters.get("label", ())):
        return False
    if any(has(t) for t in filters.get("label!", ())):
        return False
    limits = [parse_moment(t) for t in filters.get("until", ())]
    return all(epoch_ns(c.created) / 1e9 < limit for limit in limits)

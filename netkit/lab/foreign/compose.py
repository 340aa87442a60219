"""A compose file as a lab: one host with an engine, services as containers on its networks.  Pure.

Keys are those of the Compose Specification.  Images other than busybox and Debian's are stood in
for: a lab does not pull.  What gives a container the machine's rights or files is left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from netkit.lab.document import LabFile
from netkit.lab.foreign.compose_networks import Networks
from netkit.lab.foreign.compose_run import flags, port, volume
from netkit.lab.foreign.compose_values import NAME, WHY, Values
from netkit.lab.foreign.draft import MAX_CHECKS, Draft
from netkit.lab.foreign.origin import Origin, why_not
from netkit.lab.schema import Path

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
HOST = "h1"
_DEBIAN = re.compile(r"debian:(bookworm|trixie|bullseye|sid)(-slim)?")
_BUSYBOX = re.compile(r"((docker\.io/)?library/)?busybox(:[\w.-]+)?")


def read(text: str, file: str, environment: Mapping[str, str]) -> Draft:
    """`environment`: of the file .env beside it.  Raises LabFile where it is no compose file."""
    origin = Origin(text, file)
    draft = Draft(source=file, kind="compose")
    draft.engine = {}
    reader = _Reader(origin, draft, environment)
    reader.lab()
    return draft


class _Reader:
    def __init__(self, origin: Origin, draft: Draft, environment: Mapping[str, str]) -> None:
        self.origin, self.draft = origin, draft
        self.values = Values(origin, draft, environment)
        self.names: dict[str, str] = {}  # service to container

    def lab(self) -> None:
        services = self.origin.mapping("services")
        if not services:
            raise LabFile(f"{self.origin.file}: there are no services: what is to be imported?")
        self.draft.summary = self.values.use("name")
        self.draft.names.add(HOST)
        networks = Networks(self.values)
        for service in services:
            place = self.origin.place(("services", service))
            self.names[service] = self._container_name(service, place)
        containers = {self.names[service]: self._service(service, networks)
                      for service in self._order(list(services))}  # fmt: skip
        self.draft.engine = {"networks": networks.made} if networks.made else {}
        self.draft.engine["containers"] = containers
        self._checks(containers)
        self._rest()

    def _container_name(self, service: str, place: str) -> str:
        """The service's own where the lab may have it: other services ask for it by name."""
        if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{1,62}", service) and service not in self.draft.names:
            return self.draft.add(service, place)
        return self.draft.name(service, place, longest=60, shortest=2)

    def _order(self, services: list[str]) -> list[str]:
        """Those first that others depend on; LabFile for a circle."""
        waits: dict[str, list[str]] = {}
        for service in services:
            at: Path = ("services", service)
            self.origin.mapping(*at)
            waits[service] = [d for d in self._depends((*at, "depends_on")) if d in self.names]
            links = range(len(self.origin.items(*at, "links")))
            targets = [self._link((*at, "links", n))[0] for n in links]
            waits[service] += [target for target in targets if target in self.names]
        out: dict[str, None] = {}
        while len(out) < len(services):
            ready = [s for s in services if s not in out and all(w in out for w in waits[s])]
            if not ready:
                circle = ", ".join(s for s in services if s not in out)
                raise LabFile(f"{self.origin.file}: these services wait for each other: {circle}")
            out |= dict.fromkeys(ready)
        return list(out)

    def _depends(self, at: Path) -> Iterator[str]:
        given = self.origin.at(*at)
        if isinstance(given, list):
            for name in self.origin.use(*at):
                yield str(name)
        elif given is not None:
            for name in self.origin.mapping(*at):
                self.origin.mapping(*at, name)
                how = self.origin.use(*at, name, "condition")
                if how not in (None, "service_started"):  # it may be a list
                    why = f"{how}: a container is waited for until it is started"
                    self.values.note((*at, name), why)
                yield name

    def _link(self, at: Path) -> tuple[str, str]:
        name, _, alias = self.values.text(self.origin.at(*at), at).partition(":")
        return name, alias or name

    def _service(self, service: str, networks: Networks) -> dict[str, Any]:
        at: Path = ("services", service)
        out: dict[str, Any] = {}
        more: list[str] = []
        self._image(out, more, at)
        joined, aliases = networks.join(service, self.names[service])
        if joined:
            out["networks"] = joined if any(joined.values()) else list(joined)
        self._links(out, at)
        numbers = range(len(self.origin.items(*at, "ports")))
        if ports := [p for n in numbers if (p := port(self.values, (*at, "ports", n)))]:
            out["ports"] = ports
        more += aliases
        for n in range(len(self.origin.items(*at, "volumes"))):
            more += volume(self.values, (*at, "volumes", n))
        stands_in = self.draft.images.get(out.get("image", "")) == {}
        more += flags(self.values, at, stands_in=stands_in)
        if more:
            out["flags"] = more
        return out

    def _image(self, out: dict[str, Any], more: list[str], at: Path) -> None:
        image = self.values.use(*at, "image") or self.names[str(at[1])].lower()
        if found := _DEBIAN.fullmatch(image):
            self.draft.images[image] = {"bootstrap": f"debian:{found[1]}"}
        elif not _BUSYBOX.fullmatch(image):
            image = image.partition("@")[0].lower()
            if not re.fullmatch(r"[a-z0-9][a-z0-9._/-]*(:[a-z0-9._-]+)?", image):
                image = "image"
            self.draft.images[image] = {}
            why = f"{image} is Debian's busybox here, for a lab does not pull"
            self.values.note((*at, "image"), why)
        else:
            if image != "busybox":
                self.draft.change(self.origin.place((*at, "image")), f"{image} is busybox here")
            image = "busybox"
        if image != "busybox":
            out["image"] = image
        stands_in = self.draft.images.get(image) == {}
        self._command(out, more, at, stands_in=stands_in)

    def _command(self, out: dict[str, Any], more: list[str], at: Path, *, stands_in: bool) -> None:
        found: dict[str, list[str]] = {}
        for key in ("entrypoint", "command"):
            given = self.origin.use(*at, key)
            if isinstance(given, list):
                found[key] = [self.values.text(word, (*at, key)) for word in given]
            elif given:
                found[key] = self._words(self.values.text(given, (*at, key)), (*at, key))
        if stands_in and found:
            for key in found:
                self.values.omit((*at, key), "the image that has the program is not here")
            return
        if "entrypoint" in found:
            first, *words = found["entrypoint"] or [""]
            more.append(f"--entrypoint={first}")
            found["command"] = [*words, *found.get("command", [])]
        if found.get("command"):
            out["command"] = found["command"]

    def _words(self, text: str, at: Path) -> list[str]:
        try:
            return shlex.split(text)
        except ValueError as bad:
            raise LabFile(self.origin.message(at, f"{bad}: close the quotes")) from None

    def _links(self, out: dict[str, Any], at: Path) -> None:
        found = []
        for n in range(len(self.origin.items(*at, "links"))):
            name, alias = self._link((*at, "links", n))
            self.origin.use(*at, "links", n)
            if name in self.names and NAME.fullmatch(alias):
                found.append(f"{self.names[name]}:{alias}")
            else:
                self.values.omit((*at, "links", n), f"there is no service {name}")
        if found:
            out["links"] = found

    def _checks(self, containers: Mapping[str, Any]) -> None:
        by_network: dict[str, list[str]] = {}
        for name, c in containers.items():
            for network in c.get("networks", ()):
                by_network.setdefault(network, []).append(name)
        for network, names in by_network.items():
            found = [f"{one} -> {other}@{network} icmp ok" for one, other in pairwise(names)]
            self.draft.checks += found[: MAX_CHECKS - len(self.draft.checks)]

    def _rest(self) -> None:
        for at, tag in self.origin.tags:
            self.draft.omit(self.origin.place(at), f"the tag {tag}")
        for at in self.origin.unused():
            self.draft.omit(self.origin.shown(at), why_not(at, WHY))

"""Values of a compose file with their variables replaced; why some are not carried over.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from netkit.lab.foreign.draft import Draft
from netkit.lab.foreign.origin import Origin
from netkit.lab.foreign.shell import NO_IPV6
from netkit.lab.foreign.variables import Variables
from netkit.lab.schema import Path

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
RIGHTS = "it would give a container rights on this machine: add it to `flags` if you trust the file"
FILES = "files of this machine: add -v to `flags` if you trust the file"
WHY = {
    **dict.fromkeys(
        ("privileged", "devices", "device_cgroup_rules", "security_opt", "pid", "ipc", "uts",
         "userns_mode", "cgroup", "cgroup_parent", "use_api_socket", "gpus", "runtime",
         "credential_spec", "network_mode", "isolation"), RIGHTS,
    ),
    **dict.fromkeys(("env_file", "label_file", "secrets", "configs", "volumes_from"), FILES),
    **dict.fromkeys(("build", "pull_policy", "pull_refresh_after", "platform"),
                    "a lab neither builds nor pulls images"),
    **dict.fromkeys(("develop", "attach", "profiles", "extends", "include", "provider", "models",
                     "annotations", "post_start", "pre_stop"), "it is of compose itself"),
    **dict.fromkeys(("deploy", "scale"), "there is one container of a service: `count` makes more"),
    **dict.fromkeys(("ipv6_address", "enable_ipv6"), NO_IPV6),
    **dict.fromkeys(("external", "external_links"), "a lab has only what it makes"),
    **dict.fromkeys(("labels", "name", "container_name"), "things here are called as in this lab"),
    "driver_opts": "they may name files of this machine",
    "version": "it says nothing any more",
    "volumes": "no service has this volume",
}  # fmt: skip


class Values:
    """The file, the lab that it becomes, and what its variables stand for."""

    def __init__(self, origin: Origin, draft: Draft, environment: Mapping[str, str]) -> None:
        self.origin, self.draft = origin, draft
        self._variables = Variables(environment)

    def text(self, value: Any, at: Path) -> str:
        """A value as text, with its variables replaced; what is wrong is noted as of `at`."""
        if isinstance(value, bool):
            return str(value).lower()
        place = self.origin.place(at)
        given = "" if value is None else str(value)
        return self._variables.replaced(given, lambda why: self.draft.omit(place, why))

    def use(self, *at: str | int) -> str:
        return self.text(self.origin.use(*at), at)

    def true(self, *at: str | int) -> bool:
        """Whether it is true; what is neither true nor false is noted."""
        text = self.use(*at)
        if text not in {"true", "false", ""}:
            self.note(at, f"{text} is neither true nor false")
        return text == "true"

    def omit(self, at: Path, why: str) -> None:
        """The value there is left out, and all that it holds."""
        self.origin.use(*at)
        self.note(at, why)

    def note(self, at: Path, why: str) -> None:
        """A part of what is there is left out."""
        self.draft.omit(self.origin.place(at), why)

    def listed(self, at: Path, key: str) -> list[str]:
        """Of a list, a mapping to NAME=VALUE, or one value."""
        given = self.origin.use(*at, key)
        joint = ":" if key == "extra_hosts" else "="
        if isinstance(given, dict):
            return [
                k if v is None else f"{k}{joint}{self.text(v, (*at, key))}"
                for k, v in given.items()
            ]
        if isinstance(given, list):
            return [self.text(v, (*at, key, n)) for n, v in enumerate(given)]
        return [] if given is None else [self.text(given, (*at, key))]

    def checked(self, text: str, check: Callable[[str], object], at: Path) -> str:
        """The text, or "" where `check` raises ValueError, which is noted."""
        try:
            check(text)
        except ValueError as bad:
            self.omit(at, str(bad))
            return ""
        return text

"""Parse --security-opt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig
from runtime.oci import seccomp


@dataclass(frozen=True, slots=True)
class Security:
    no_new_privileges: bool
    profile: Mapping[str, Any] | None
    builtin: bool
    open_system_paths: bool

    @classmethod
    def of(cls, host_config: HostConfig) -> Security:
        no_new, opened, given = False, False, ""
        for option in host_config.security_opt or ():
            key, sep, value = _split(option)
            if key == "no-new-privileges":
                if sep and value.lower() not in {"true", "1", "false", "0"}:
                    raise InvalidSpec(f"invalid --security-opt: {option!r}: true or false")
                no_new = not sep or value.lower() in {"true", "1"}
            elif key == "seccomp" and sep:
                given = value
            elif key == "systempaths" and value == "unconfined":
                opened = True
            elif (key, value) in {("apparmor", "unconfined"), ("label", "disable")}:
                continue  # neither is supported, so both are off already
            elif key in {"apparmor", "label"}:
                raise InvalidSpec(f"--security-opt {option}: this engine has no {key} support")
            else:
                raise InvalidSpec(f"invalid --security-opt: {option!r}")
        if given == "unconfined":
            return cls(no_new, None, False, opened)
        if given in {"", "builtin", "default"}:
            return cls(no_new, seccomp.builtin(), True, opened)
        return cls(no_new, seccomp.parse(given), False, opened)


def _split(option: str) -> tuple[str, str, str]:
    """ "key=value", or the older "key:value"."""
    for sep in "=:":
        key, found, value = option.partition(sep)
        if found and key in {"no-new-privileges", "seccomp", "apparmor", "label", "systempaths"}:
            return key, found, value
    return option, "", ""

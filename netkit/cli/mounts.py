"""docker's -v, --mount and --device texts as the API's values.  Pure but for `.` paths."""

from __future__ import annotations

import os
import posixpath

from netkit.cli.values import csv_fields, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

MODES = frozenset("rwm")
SWITCHES = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
RECURSIVE = {
    "enabled": None,
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}
OPTIONS_OF = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions",
              "image": "ImageOptions"}  # fmt: skip


def volume(text: str) -> tuple[str | None, str | None]:
    """-v: the bind to ask for, or an anonymous volume's target; ValueError if it is neither."""
    parts = text.split(":")
    if not text or any(not part for part in parts):
        raise ValueError(f"invalid spec: {text}: empty section between colons")
    if len(parts) == 1:
        return None, text
    if len(parts) > 3:
        raise ValueError(f"invalid spec: {text}: too many colons")
    source = parts[0]
    if source.startswith("."):
        parts[0] = os.path.abspath(source)
    return ":".join(parts), None


def mount(text: str) -> Json:
    """--mount type=bind,src=/a,dst=/b,readonly as an entry of HostConfig.Mounts."""
    text = text.strip()
    if not text:
        raise ValueError("value is empty")
    found: Json = {"Type": "volume"}
    for field in csv_fields(text):
        key, equals, given = field.partition("=")
        key = _checked(key, equals, given, field).lower()
        if not equals and key not in SWITCHES:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        _apply(found, key, given, bool(equals), field)
    if not found.get("Target"):
        raise ValueError("target is required")
    _agree(found)
    return found


def device(text: str) -> Json:
    """--device HOST[:CONTAINER][:rwm]."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {text}")
    host, inside, mode = parts[0], "", "rwm"
    if len(parts) == 3:
        inside, mode = parts[1], parts[2]
        if not _is_mode(mode):
            raise ValueError(f"bad mode specified: {mode}")
    elif len(parts) == 2 and _is_mode(parts[1]):
        mode = parts[1]
    elif len(parts) == 2:
        inside = posixpath.normpath(parts[1])
    if not inside:
        host = inside = posixpath.normpath(host)
    if not posixpath.isabs(inside):
        raise ValueError(f"{inside} is not an absolute path")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= MODES and len(set(text)) == len(text)


def _checked(key: str, equals: str, given: str, field: str) -> str:
    if key.strip() != key:
        raise ValueError(
            f"invalid option '{key.strip()}' in '{field}': option should not have whitespace"
        )
    if equals and not given.strip():
        raise ValueError(f"invalid value for '{key}': value is empty")
    if given.strip() != given:
        raise ValueError(
            f"invalid value for '{key}' in '{field}': value should not have whitespace"
        )
    return key


def _apply(found: Json, key: str, given: str, has_value: bool, field: str) -> None:
    bind, volume_, tmpfs = "BindOptions", "VolumeOptions", "TmpfsOptions"
    match key:
        case "type":
            found["Type"] = given.lower()
        case "source" | "src":
            found["Source"] = os.path.abspath(given) if given.startswith(".") else given
        case "target" | "dst" | "destination":
            found["Target"] = given
        case "readonly" | "ro":
            found["ReadOnly"] = _boolean(key, given, has_value)
        case "consistency":
            found["Consistency"] = given.lower()
        case "bind-propagation":
            found.setdefault(bind, {})["Propagation"] = given.lower()
        case "bind-nonrecursive":
            found.setdefault(bind, {})["NonRecursive"] = _boolean(key, given, has_value)
        case "bind-recursive":
            if given not in RECURSIVE:
                raise ValueError(
                    f'invalid value for {key}: {given} (must be "enabled", "disabled",'
                    ' "writable", or "readonly")'
                )
            if name := RECURSIVE[given]:
                found.setdefault(bind, {})[name] = True
        case "bind-create-src":
            found.setdefault(bind, {})["CreateMountpoint"] = _boolean(key, given, has_value)
        case "volume-subpath":
            found.setdefault(volume_, {})["Subpath"] = given
        case "volume-nocopy":
            found.setdefault(volume_, {})["NoCopy"] = _boolean(key, given, has_value)
        case "volume-label":
            _put(found.setdefault(volume_, {}).setdefault("Labels", {}), given)
        case "volume-driver":
            found.setdefault(volume_, {}).setdefault("DriverConfig", {})["Name"] = given
        case "volume-opt":
            driver = found.setdefault(volume_, {}).setdefault("DriverConfig", {})
            _put(driver.setdefault("Options", {}), given)
        case "image-subpath":
            found.setdefault("ImageOptions", {})["Subpath"] = given
        case "tmpfs-size":
            found.setdefault(tmpfs, {})["SizeBytes"] = _number(key, given, size)
        case "tmpfs-mode":
            found.setdefault(tmpfs, {})["Mode"] = _number(key, given, lambda t: int(t, 8))
        case _:
            raise ValueError(f"unexpected key '{key}' in '{field}'")


def _number(key: str, given: str, parse: Any) -> int:
    try:
        return int(parse(given))
    except ValueError:
        raise ValueError(f"invalid value for {key}: {given}") from None


def _put(target: dict[str, str], text: str) -> None:
    key, _, given = text.partition("=")
    if key:
        target[key] = given


def _boolean(key: str, given: str, has_value: bool) -> bool:
    if not has_value:
        return True
    if given not in ("1", "true", "0", "false"):
        raise ValueError(f"invalid value for {key}: {given}")
    return given in ("1", "true")


def _agree(found: Json) -> None:
    """Options of another type of mount are an error, as is bind-recursive without readonly."""
    kind = found["Type"]
    for name, options in OPTIONS_OF.items():
        if options in found and kind != name:
            raise ValueError(f"cannot mix '{name}-*' options with mount type '{kind}'")
    bind = found.get("BindOptions", {})
    if bind.get("ReadOnlyNonRecursive") and not found.get("ReadOnly"):
        raise ValueError(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
        )
    if bind.get("ReadOnlyForceRecursive"):
        if not found.get("ReadOnly"):
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in"
                " conjunction"
            )
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be"
                " specified in conjunction"
            )

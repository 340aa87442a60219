"""docker's --network in both forms, joined with the older --ip, --link, ... flags.  Pure."""

from __future__ import annotations

import re

from netkit.cli.values import address, csv_fields, mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netkit.cli.flags import Options

    Json = dict[str, Any]

BUILT_IN = ("bridge", "host", "none", "default")
ADDRESSES = "netkit.addresses"  # the driver option with an endpoint's addresses
# No name of a network has a colon; "container:..." is none.
_WITH_ADDRESSES = r"(?!container:)(?P<name>[^:=,]+):(?P<addresses>(ip:|net:|\d).*)"


def with_addresses(text: str) -> tuple[str, Json]:
    """ "weave:10.2.1.1/24,net:default" as ("weave", the driver options); "weave" without any."""
    found = re.fullmatch(_WITH_ADDRESSES, text)
    return (found["name"], {ADDRESSES: found["addresses"]}) if found else (text, {})


def attachment(text: str) -> Json:
    """ "name" or "name=N,alias=A,ip=..." as {"Target": N, ...} with EndpointSettings' keys.

    Also netkit's own "name:ADDRESS,...", see `with_addresses`.
    """
    name, options = with_addresses(text)
    if options:
        return {"Target": name, "DriverOpts": options}
    if not re.search(r"\w+=\w+(,\w+=\w+)*", text):
        return {"Target": text}
    found: Json = {"Target": ""}
    for field in csv_fields(text):
        # docker lower-cases the whole field, names and all.
        key, equals, given = (part.strip() for part in field.lower().partition("="))
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        _apply(found, key, given)
    if not found["Target"]:
        raise ValueError("network name/id is not specified")
    return found


def _apply(found: Json, key: str, given: str) -> None:
    match key:
        case "name":
            found["Target"] = given
        case "alias":
            found.setdefault("Aliases", []).append(given)
        case "ip":
            found["IPv4Address"] = address(given)
        case "ip6":
            found["IPv6Address"] = address(given)
        case "mac-address":
            found["MacAddress"] = given
        case "link-local-ip":
            found.setdefault("LinkLocalIPs", []).append(address(given))
        case "driver-opt":
            name, equals, option = (part.strip() for part in given.partition("="))
            if not equals or not name:
                raise ValueError("invalid key value pair format in driver options")
            found.setdefault("DriverOpts", {})[name] = option
        case "gw-priority":
            try:
                found["GwPriority"] = int(given)
            except ValueError:
                raise ValueError(f"invalid gw-priority ({given}): invalid syntax") from None
        case _:
            raise ValueError(f"invalid field key {key}")


def is_user_defined(name: str) -> bool:
    return name not in BUILT_IN and not name.startswith("container:")


# What the older flags set on the first network: flag, key, how to name it in a conflict.
OLDER = (
    ("network-alias", "Aliases", "--network-alias and per-network alias"),
    ("ip", "IPv4Address", "--ip and per-network IPv4 address"),
    ("ip6", "IPv6Address", "--ip6 and per-network IPv6 address"),
    ("mac-address", "MacAddress", "--mac-address and per-network MAC address"),
    ("link-local-ip", "LinkLocalIPs",
     "--link-local-ip and per-network link-local IP addresses"),
)  # fmt: skip


def endpoints(options: Options) -> tuple[str, Json]:
    """NetworkMode and EndpointsConfig of `run`.  ValueError names the conflict."""
    asked = [dict(each) for each in options.all("network", dict)]
    attachments = asked or [{"Target": "default"}]
    _older_flags(attachments[0], options)
    found: Json = {}
    for attachment in attachments:
        name = attachment["Target"]
        if not name.strip():
            raise ValueError("no name set for network")
        if name in found:
            raise ValueError(f'network "{name}" is specified multiple times')
        found[name] = settings(attachment)
    if len({is_user_defined(name) for name in found}) > 1:
        raise ValueError(
            "conflicting options: cannot attach both user-defined and non-user-defined"
            " network-modes"
        )
    mode = next(iter(found))
    # One plain network: the daemon makes the endpoint from NetworkMode.
    return mode, found if len(found) > 1 or any(found.values()) else {}


def _older_flags(first: Json, options: Options) -> None:
    for flag, key, both in OLDER:
        given = options.values[flag]
        if not given:
            continue
        if first.get(key):
            raise ValueError(f"conflicting options: cannot specify both {both}")
        first[key] = list(given) if isinstance(given, tuple) else given
    if is_user_defined(first["Target"]) and options.texts("link"):
        first["Links"] = options.texts("link")


def settings(attachment: Json) -> Json:
    """EndpointSettings of one network, empty if nothing is asked of it."""
    if not is_user_defined(attachment["Target"]):
        if attachment.get("Aliases"):
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if attachment.get("Links"):
            raise ValueError("links are only supported for user-defined networks")
    ipam = {
        key: attachment[key]
        for key in ("IPv4Address", "IPv6Address", "LinkLocalIPs")
        if attachment.get(key)
    }
    found: Json = {
        key: attachment[key]
        for key in ("Aliases", "Links", "DriverOpts", "GwPriority")
        if attachment.get(key)
    }
    if ipam:
        found["IPAMConfig"] = ipam
    if attachment.get("MacAddress"):
        found["MacAddress"] = mac(attachment["MacAddress"])
    return found

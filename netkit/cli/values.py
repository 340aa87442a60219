"""The texts of flags as values: sizes, durations, numbers, key=value pairs.  Pure.

Each parser raises ValueError with docker's reason; sizes are bytes, durations nanoseconds,
CPUs units of 1e-9.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6,
    "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
ULIMITS = frozenset({
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
    "rss", "rtprio", "rttime", "sigpending", "stack",
})  # fmt: skip
SYSCTLS = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
    "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
})  # fmt: skip
STREAMS = ("stdin", "stdout", "stderr")


def integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def unsigned(limit: int) -> Callable[[str], int]:
    """A parser of whole numbers from 0 to `limit`."""

    def parse(text: str) -> int:
        try:
            number = int(text, 0)
        except ValueError:
            number = -1
        if number < 0:
            raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
        if number > limit:
            raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
        return number

    return parse


def size(text: str) -> int:
    """ "64m", "1.5 GiB", "512" in bytes; the units are powers of 1024 whatever they look like."""
    at = max((text.rfind(c) for c in "0123456789. "), default=-1)
    if at == -1:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[: at + 1].removesuffix(" "), text[at + 1 :].lower()
    try:
        amount = float(number)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if amount < 0:
        raise ValueError(f"invalid size: '{text}'")
    if suffix in ("", "b"):
        return int(amount)
    if suffix[0] not in BINARY or suffix[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(amount * BINARY[suffix[0]])


def swap(text: str) -> int:
    return -1 if text == "-1" else size(text)


def cpus(text: str) -> int:
    from fractions import Fraction

    try:
        nano = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def duration(text: str) -> int:
    """Go's: "300ms", "1h15m", "-1.5s", "0"; a number needs a unit."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, at = 0.0, 0
    for part in re.finditer(r"(\d+(?:\.\d*)?|\.\d+)([^\d.]*)", rest):
        number, unit = part.groups()
        if part.start() != at:
            break
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in NANOSECONDS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * NANOSECONDS[unit]
        at = part.end()
    if at == 0 or at != len(rest):
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * round(total)


def pairs(items: Iterable[str]) -> dict[str, str]:
    """["k=v", "flag"] as {"k": "v", "flag": ""}; later ones win."""
    return {k: v for k, _, v in (item.partition("=") for item in items)}


def mapping(text: str) -> str:
    """One entry of a map flag."""
    key, equals, _ = text.partition("=")
    if equals and not key:
        raise ValueError(f"invalid map argument: {text}: the name is empty")
    return text


def label(text: str) -> str:
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if re.search(r"[ \t]", key):
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def variable(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def comma_list(text: str) -> tuple[str, ...]:
    """Items of a flag that takes several at once."""
    return tuple(text.split(","))


def attach(text: str) -> str:
    if text.lower() not in STREAMS:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def extra_host(text: str) -> str:
    """ "name:ip", "name=ip" or "name=[ip6]" as "name:ip"; `host-gateway` is the daemon's."""
    from ipaddress import ip_address

    at = text.find("=") if "=" in text else text.find(":")
    name, address = text[:at], text[at + 1 :]
    if at <= 0 or not address:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address == "host-gateway":
        return f"{name}:{address}"
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        ip_address(address)
    except ValueError:
        raise ValueError(f'invalid IP address in add-host: "{address}"') from None
    return f"{name}:{address}"


def address(text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def dns_search(text: str) -> str:
    domain = text.strip()
    name = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
    if domain != "." and not re.fullmatch(rf"{name}(\.{name})*\.?", domain):
        raise ValueError(f"{text} is not a valid domain")
    return domain


def link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def sysctl(text: str) -> str:
    key, equals, _ = text.partition("=")
    if equals and key and (key in SYSCTLS or key.startswith(("net.", "fs.mqueue."))):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")


def ulimit(text: str) -> dict[str, object]:
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    numbers = [integer(part) for part in limits.split(":")]
    if len(numbers) > 2:
        raise ValueError(
            f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        )
    soft, hard = numbers[0], numbers[-1]
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return {"Name": name, "Soft": soft, "Hard": hard}


def weight_device(text: str) -> dict[str, object]:
    path, _, weight = _device_rate(text)
    if not weight.isdecimal() or not (int(weight) == 0 or 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def throttle_bytes(text: str) -> dict[str, object]:
    path, _, rate = _device_rate(text)
    try:
        return {"Path": path, "Rate": size(rate)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is"
            " <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is"
            " optional and can be kb, mb, or gb"
        ) from None


def throttle_operations(text: str) -> dict[str, object]:
    path, _, rate = _device_rate(text)
    if not rate.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>."
            " Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(rate)}


def _device_rate(text: str) -> tuple[str, str, str]:
    path, colon, rest = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, colon, rest


def cgroup_rule(text: str) -> str:
    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def mac(text: str) -> str:
    """Lower case with colons.  ValueError for anything that is no 48-bit address."""
    digits = text.strip().lower().replace("-", ":")
    if re.fullmatch(r"([0-9a-f]{4}\.){2}[0-9a-f]{4}", digits):
        plain = digits.replace(".", "")
        digits = ":".join(plain[i : i + 2] for i in range(0, 12, 2))
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", digits):
        raise ValueError(f"{text} is not a valid mac address")
    return digits


def restart_policy(text: str) -> dict[str, object]:
    """ "on-failure:3" as the API's object; only the form is looked at, the daemon judges."""
    if not text:
        return {}
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    try:
        retries = int(count or 0)
    except ValueError:
        raise ValueError(
            "invalid restart policy format: maximum retry count must be an integer"
        ) from None
    return {"Name": name, "MaximumRetryCount": retries}


def csv_fields(text: str) -> list[str]:
    """One CSV record with "quoted" fields."""
    import csv

    rows = list(csv.reader([text], strict=True))
    return rows[0] if rows else []


def filter_pair(text: str) -> tuple[tuple[str, str], ...]:
    """ "label=a=b" as (("label", "a=b"),); nothing for an empty text."""
    if not text:
        return ()
    key, equals, wanted = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return ((key.strip().lower(), wanted.strip()),)

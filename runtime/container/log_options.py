"""Validate `--log-opt`, and parse the limits for rotation.  Pure."""

from __future__ import annotations

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig
from runtime.numbers import natural

OPTIONS = frozenset({"max-size", "max-file", "mode", "labels", "env", "tag", "compress"})
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def check_log(host_config: HostConfig) -> None:
    """Check log options.  InvalidSpec names the unknown or malformed one."""
    options = host_config.log_config.config or {}
    if unknown := sorted(set(options) - OPTIONS):
        raise InvalidSpec(
            f"unknown log opt '{unknown[0]}' for {host_config.log_config.type or 'json-file'} "
            "log driver"
        )
    log_limit(host_config)


def log_limit(host_config: HostConfig) -> tuple[int, int]:
    """(bytes at which the log is rotated, files kept); 0: never.  InvalidSpec if malformed."""
    options = host_config.log_config.config or {}
    text, files = options.get("max-size", ""), options.get("max-file", "1")
    if not (count := natural(files)):
        raise InvalidSpec(f"max-file cannot be less than 1: {files[:60]!r}")
    if text in {"", "-1"}:
        return 0, 1
    digits = text.lower().removesuffix("b").rstrip("kmg")
    unit = text.lower().removesuffix("b")[len(digits) :]
    if unit not in _UNITS or not (number := natural(digits)):
        raise InvalidSpec(f"invalid value for max-size: {text[:60]!r}: e.g. 10m")
    return number * _UNITS[unit], count

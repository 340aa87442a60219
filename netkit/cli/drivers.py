"""The network drivers of this machine, for help and completion."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from importlib.metadata import entry_points


def names() -> list[str]:
    return sorted({entry.name for entry in entry_points(group="netkit.drivers")})


def options() -> dict[str, Collection[str]]:
    """What each driver reads of `-o`; one that cannot be loaded is left out."""
    found: dict[str, Collection[str]] = {}
    for entry in sorted(entry_points(group="netkit.drivers"), key=lambda each: each.name):
        try:
            found[entry.name] = entry.load().options
        except Exception:  # noqa: BLE001  a third party's driver must not break the help
            continue
    return found


def paragraph() -> str:
    """Drivers with their options, for `net create --help`."""
    lines = ["Drivers and their options (-o KEY=VALUE):"]
    for driver, known in options().items():
        lines.append(f"  {driver}" if known else f"  {driver}: none")
        for key in known:
            about = known[key] if isinstance(known, Mapping) else ""
            if isinstance(known, Mapping) and not about:
                continue  # known only to be refused
            lines.append(f"    {key}")
            lines += textwrap.wrap(about, 90, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)

"""--filter, as the API takes it."""

from __future__ import annotations

import json

from netkit.cli import values
from netkit.cli.flags import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.flags import Flag, Options


def flag(short: str = "f", help: str = "Filter output based on conditions provided") -> Flag:
    return many("filter", help, short=short, kind="filter", parse=values.filter_pair)


def query(options: Options, **more: list[str]) -> str:
    """The JSON of all filters, {"label": {"a=b": true}}; empty when there are none."""
    found: dict[str, dict[str, bool]] = {}
    for key, wanted in options.all("filter", tuple):
        found.setdefault(key, {})[wanted] = True
    for key, several in more.items():
        for wanted in several:
            found.setdefault(key, {})[wanted] = True
    return json.dumps(found, separators=(",", ":"), sort_keys=True) if found else ""

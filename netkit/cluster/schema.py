"""The database `Netkit`, as OVSDB knows it.  Source: RFC 7047, 3.2.

    Host      a netkitd: its id, its machine's name, the address where tunnels to it end
    Network   a network of scope global, as its creator asked for it
    Address   allocated addresses: the index makes a second owner impossible
    Endpoint  a container on a network, for names and for forwarding
    Netkit    one row with a counter: networks are created one after the other

References are strong, so a network or host can be deleted only when no row refers to it.
"""

from __future__ import annotations

from typing import Any

NAME = "Netkit"
VERSION = "1.0.0"


def _to(table: str, least: int = 1) -> dict[str, Any]:
    key = {"type": "uuid", "refTable": table, "refType": "strong"}
    return {"type": {"key": key, "min": least, "max": 1}}


TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "name": NAME,
    "version": VERSION,
    "tables": {
        "Netkit": {"isRoot": True, "maxRows": 1, "columns": {"serial": {"type": "integer"}}},
        "Host": {
            "isRoot": True,
            "columns": {"id": TEXT, "name": TEXT, "address": TEXT},
            "indexes": [["id"], ["address"]],
        },
        "Network": {
            "isRoot": True,
            "columns": {"id": TEXT, "name": TEXT, "subnet": TEXT, "doc": TEXT},
            "indexes": [["id"], ["name"]],
        },
        "Address": {
            "isRoot": True,
            "columns": {
                "network": _to("Network"),
                "address": TEXT,
                "host": _to("Host", 0),  # empty: the gateway, or another reserved one
                "holder": TEXT,
                "owner": TEXT,
            },
            "indexes": [["network", "address"]],
        },
        "Endpoint": {
            "isRoot": True,
            "columns": {
                "id": TEXT,
                "network": _to("Network"),
                "host": _to("Host"),
                "sandbox": TEXT,
                "owner": TEXT,
                "address": TEXT,
                "mac": TEXT,
                "names": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
            },
            "indexes": [["id"], ["network", "mac"]],
        },
    },
}

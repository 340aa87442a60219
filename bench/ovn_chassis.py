"""Simulated chassis of OVN:  python -m bench.ovn_chassis SOCKET FIRST COUNT DATAPATH PORT...

Each is a client of the southbound database with a connection of its own.  To the server it does
what ovn-controller does: it monitors by condition, registers Chassis, Encap and Chassis_Private,
claims a port where it is given one, follows the logical flows of its datapath, and answers nb_cfg
of SB_Global with its own.  It computes no flows, has no Open vSwitch and makes no tunnels: what is
received is parsed, counted, and forgotten.  Source of the conditions: update_sb_monitors() of
ovn-controller.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

SOUTHBOUND = "OVN_Southbound"
WHOLE = ("SB_Global", "Chassis", "Encap", "DHCP_Options", "Datapath_Binding", "Port_Group",
         "Address_Set")  # fmt: skip
DECODER = json.JSONDecoder()


@dataclass
class SimulatedChassis:
    """One connection."""

    number: int
    socket: socket.socket
    datapath: str
    port: str  # the UUID of its Port_Binding; "" without one
    waiting: str = ""  # text of a message that is not whole
    received: int = 0  # bytes
    row: str = ""  # UUID of its Chassis_Private
    ready: bool = False
    asked: int = 0
    seen: int = -1  # SB_Global's nb_cfg
    columns: dict[str, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"sim-{self.number}"

    def send(self, method: str, params: list[Any], ident: object = None) -> None:
        self.asked += 1
        message = {"method": method, "params": params, "id": ident or self.asked}
        self.socket.sendall(json.dumps(message).encode())

    def begin(self) -> None:
        """Register, and claim the port."""
        end = f"10.{100 + self.number // 65000}.{self.number // 250}.{self.number % 250 + 1}"
        encap = {"type": "geneve", "ip": end, "chassis_name": self.name}
        chassis = {"name": self.name, "hostname": self.name, "encaps": ["named-uuid", "encap"]}
        operations: list[dict[str, Any]] = [
            {"op": "insert", "table": "Encap", "row": encap, "uuid-name": "encap"},
            {"op": "insert", "table": "Chassis", "row": chassis, "uuid-name": "chassis"},
            {"op": "insert", "table": "Chassis_Private",
             "row": {"name": self.name, "chassis": ["named-uuid", "chassis"]}},
        ]  # fmt: skip
        if self.port:
            row = {"chassis": ["named-uuid", "chassis"], "up": True}
            where = [["_uuid", "==", ["uuid", self.port]]]
            operations.append({"op": "update", "table": "Port_Binding", "where": where, "row": row})
        self.send("transact", [SOUTHBOUND, *operations], "register")

    def monitor(self) -> None:
        here = ["uuid", self.datapath]
        tables: dict[str, list[dict[str, Any]]] = {table: [{}] for table in WHOLE}
        for table, column in (
            ("Port_Binding", "datapath"),
            ("Logical_Flow", "logical_datapath"),
            ("MAC_Binding", "datapath"),
            ("Multicast_Group", "datapath"),
        ):
            tables[table] = [{"where": [[column, "==", here]]}]
        tables["Logical_DP_Group"] = [{"where": [["datapaths", "includes", ["set", [here]]]]}]
        tables["Chassis_Private"] = [{"where": [["name", "==", self.name]]}]
        nothing = "00000000-0000-0000-0000-000000000000"
        self.send("monitor_cond_since", [SOUTHBOUND, self.number, tables, nothing], "monitor")

    def take(self) -> None:
        """Read what has arrived."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise SystemExit(f"{self.name}: the database closed the connection")
        self.received += len(data)
        self.waiting += data.decode()
        while self.waiting and data.endswith(b"}"):
            try:
                message, end = DECODER.raw_decode(self.waiting)
            except ValueError:
                return  # its end is still to come
            self.waiting = self.waiting[end:]
            self.handle(message)

    def handle(self, message: dict[str, Any]) -> None:
        if message.get("method") == "echo":
            answer = {"result": message["params"], "error": None, "id": message["id"]}
            self.socket.sendall(json.dumps(answer).encode())
        elif message.get("method") == "update3":
            self.follow(message["params"][2])
        elif message.get("id") == "register":
            if any("error" in found for found in message["result"]):
                raise SystemExit(f"{self.name}: not registered: {message['result']}")
            self.row = message["result"][2]["uuid"][1]
            self.monitor()
        elif message.get("id") == "monitor":
            self.ready = True
            self.follow(message["result"][2])

    def follow(self, tables: dict[str, Any]) -> None:
        """Answer a new nb_cfg, as ovn-controller does when it has acted on all there is."""
        for row in tables.get("SB_Global", {}).values():
            values = row.get("initial") or row.get("insert") or row.get("modify") or {}
            found = values.get("nb_cfg")
            if found is not None and found != self.seen:
                self.seen = found
                where = [["_uuid", "==", ["uuid", self.row]]]
                update = {"op": "update", "table": "Chassis_Private", "where": where,
                          "row": {"nb_cfg": found}}  # fmt: skip
                self.send("transact", [SOUTHBOUND, update])


def main() -> int:
    path, first, count, datapath, *ports = sys.argv[1:]
    selector = selectors.DefaultSelector()
    every = []
    for n in range(int(count)):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        port = ports[n] if n < len(ports) else ""
        every.append(SimulatedChassis(int(first) + n, sock, datapath, port))
        selector.register(sock, selectors.EVENT_READ, every[-1])
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    for each in every:
        each.begin()
    said = False
    while True:
        for key, _ in selector.select():
            if key.data is None:
                print(sum(each.received for each in every), flush=True)
                return 0
            key.data.take()
        if not said and all(each.ready for each in every):
            said = True
            print("ready", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

"""network: create, ls, connect, disconnect, rm, check."""

from __future__ import annotations

from netkit.cli import filters, human, netflags, removing, table, values
from netkit.cli.commands import NONE, at_least, command, complain, exactly
from netkit.cli.flags import Options, many, switch, text, value
from netkit.cli.ps import FORMAT_HELP, table_format
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Network, IPv6Network

    from netkit.cli.session import Session
    from netkit.client.engine import Json

RAW = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
TABLE = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
HEADERS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4",
    "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
}  # fmt: skip

_DRY_RUN = switch("dry-run", "Show the steps in their order, or the error, and do nothing")
_FORMAT = text("format", "'json', or nothing for text: of --dry-run")


def _refuse_format(options: Options) -> None:
    """Without --dry-run there is nothing to format."""
    if options.text("format"):
        raise Misuse("--format is for --dry-run", 1)


def _drivers() -> str:
    from netkit.cli import drivers

    return drivers.paragraph()


def _cidrs(text: str) -> tuple[str, ...]:
    from ipaddress import ip_network

    for each in text.split(","):
        try:
            ip_network(each, strict=False)
        except ValueError:
            raise ValueError(f"invalid CIDR address: {each}") from None
        if "/" not in each:
            raise ValueError(f"invalid CIDR address: {each}")
    return tuple(text.split(","))


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(values.address(each) for each in text.split(","))


def _driver_option(text: str) -> str:
    key, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ValueError("invalid key/value pair format in driver options")
    return f"{key}={given}"


@command(
    "[OPTIONS] NETWORK", exactly(1),
    switch("attachable", "Enable manual container attachment"),
    many("aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver", kind="map",
         parse=values.mapping),
    text("config-from", "The network from which to copy the configuration"),
    switch("config-only", "Create a configuration only network"),
    text("driver", "Driver to manage the Network", short="d", default="bridge"),
    _DRY_RUN,
    _FORMAT,
    many("gateway", "IPv4 or IPv6 Gateway for the master subnet", kind="strings",
         parse=_addresses),
    switch("ingress", "Create swarm routing-mesh network"),
    switch("internal", "Restrict external access to the network"),
    many("ip-range", "Allocate container ip from a sub-range", kind="strings", parse=_cidrs),
    text("ipam-driver", "IP Address Management Driver", default="default"),
    many("ipam-opt", "Set IPAM driver specific options", kind="map", parse=values.mapping),
    switch("ipv4", "Enable or disable IPv4 address assignment", default=None),
    switch("ipv6", "Enable or disable IPv6 address assignment", default=None),
    many("label", "Set metadata on a network", parse=values.label),
    many("opt", "Set driver specific options", short="o", kind="map", parse=values.mapping),
    text("scope", "Control the network's scope"),
    many("subnet", "Subnet in CIDR format that represents a network segment", kind="strings",
         parse=_cidrs),
)  # fmt: skip
def create(session: Session, options: Options) -> None:
    try:
        body = request(options)
    except ValueError as error:
        raise Misuse(str(error), 1) from None
    if options.flag("dry-run"):
        from netkit.cli import netplan

        netplan.creation(session, body, as_json=table.wants_json(options))
        return
    _refuse_format(options)
    if not session.engine.at_least((1, 44)):
        body["CheckDuplicate"] = True  # later ones never allow a name twice
    made = session.engine.post("/networks/create", body=body)
    if warning := made.get("Warning"):
        complain(f"WARNING: {warning}")
    print(made["Id"])


create.more = _drivers


def request(options: Options) -> Json:
    """The body of POST /networks/create.  ValueError names what does not fit together."""
    body: Json = {
        "Name": options.args[0],
        "Driver": options.text("driver"),
        "Options": values.pairs(options.texts("opt")),
        "Labels": values.pairs(options.texts("label")),
        "Internal": options.flag("internal"),
        "Attachable": options.flag("attachable"),
        "Ingress": options.flag("ingress"),
        "Scope": options.text("scope"),
        "ConfigOnly": options.flag("config-only"),
        "IPAM": {
            "Driver": options.text("ipam-driver"),
            "Options": values.pairs(options.texts("ipam-opt")),
            "Config": pools(options),
        },
    }
    if name := options.text("config-from"):
        body["ConfigFrom"] = {"Network": name}
    for flag, key in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flag in options.given:
            body[key] = options.flag(flag)
    return body


def _disjoint(subnets: list[str]) -> dict[str, IPv4Network | IPv6Network]:
    from ipaddress import ip_network

    nets = {each: ip_network(each, strict=False) for each in subnets}
    if len(nets) < len(subnets) or any(
        a is not b and a.version == b.version and a.overlaps(b)
        for a in nets.values() for b in nets.values()
    ):  # fmt: skip
        raise ValueError("multiple overlapping subnet configuration is not supported")
    return nets


def pools(options: Options) -> list[Json]:
    """--subnet with the --ip-range, --gateway and --aux-address that lie in each."""
    from ipaddress import ip_address, ip_network

    subnets = options.texts("subnet")
    ranges, gateways = options.texts("ip-range"), options.texts("gateway")
    if len(subnets) < max(len(ranges), len(gateways)):
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    nets = _disjoint(subnets)
    found: dict[str, Json] = {each: {"Subnet": each} for each in subnets}

    def home(kind: str, inside: str) -> Json:
        address = ip_address(inside.partition("/")[0])
        for subnet, net in nets.items():
            if address in net:
                return found[subnet]
        raise ValueError(f"no matching subnet for {kind} {inside}")

    for each in ranges:
        pool = home("range", each)
        if "IPRange" in pool:
            raise ValueError(
                f"cannot configure multiple ranges ({each}, {pool['IPRange']}) on the same subnet"
                f" ({pool['Subnet']})"
            )
        pool["IPRange"] = str(ip_network(each, strict=False))
    for each in gateways:
        pool = home("gateway", each)
        if "Gateway" in pool:
            raise ValueError(
                f"cannot configure multiple gateways ({each}, {pool['Gateway']}) for the same"
                f" subnet ({pool['Subnet']})"
            )
        pool["Gateway"] = each
    for name, each in values.pairs(options.texts("aux-address")).items():
        home("aux-address", values.address(each)).setdefault("AuxiliaryAddresses", {})[name] = each
    return list(found.values())


@command(
    "[OPTIONS]", NONE,
    filters.flag(help='Provide filter values (e.g. "driver=bridge")'),
    text("format", FORMAT_HELP),
    switch("no-trunc", "Do not truncate the output"),
    switch("quiet", "Only display network IDs", short="q"),
)  # fmt: skip
def ls(session: Session, options: Options) -> None:
    source = table_format(options, TABLE, raw=(RAW, "network_id: {{.ID}}"))
    found = session.engine.get("/networks", {"filters": filters.query(options)})
    rows = [row(each, not options.flag("no-trunc"))
            for each in sorted(found, key=lambda each: human.natural(each["Name"]))]  # fmt: skip
    table.write(rows, source, HEADERS, style=_plain if session.colour else None)


def _plain(header: str, cell: str) -> str:
    return cell


def row(found: Json, trunc: bool) -> table.Line:
    labels = found.get("Labels") or {}

    def yes(key: str, default: bool = False) -> Callable[[], str]:
        return lambda: "true" if found.get(key, default) else "false"

    fields: dict[str, Callable[[], object]] = {
        "ID": lambda: human.short_id(found["Id"]) if trunc else found["Id"],
        "Name": lambda: found["Name"],
        "Driver": lambda: found["Driver"],
        "Scope": lambda: found["Scope"],
        "IPv4": yes("EnableIPv4", True),
        "IPv6": yes("EnableIPv6"),
        "Internal": yes("Internal"),
        "Labels": lambda: human.labels(labels),
        "CreatedAt": lambda: human.go_time(found["Created"]),
    }
    return table.line(fields, Label=lambda name: labels.get(name, ""))


@command(
    "[OPTIONS] NETWORK CONTAINER", exactly(2),
    many("alias", "Add network-scoped alias for the container", kind="strings",
         parse=values.comma_list),
    many("driver-opt", "driver options for the network", kind="strings", parse=_driver_option),
    value("gw-priority", "int", values.integer, "Highest gw-priority provides the default"
          " gateway. Accepts positive and negative values.", default=0),
    value("ip", "ip", values.address, 'IPv4 address (e.g., "172.30.100.104")', default=""),
    value("ip6", "ip", values.address, 'IPv6 address (e.g., "2001:db8::33")', default=""),
    many("link", "Add link to another container", parse=values.link),
    many("link-local-ip", "Add a link-local address for the container", kind="strings",
         parse=_addresses),
)  # fmt: skip
def connect(session: Session, options: Options) -> None:
    target, container = options.args
    network, addresses = netflags.with_addresses(target)
    endpoint = {
        "IPAMConfig": {
            "IPv4Address": options.text("ip"),
            "IPv6Address": options.text("ip6"),
            "LinkLocalIPs": options.texts("link-local-ip"),
        },
        "Links": options.texts("link"),
        "Aliases": options.texts("alias"),
        "DriverOpts": values.pairs(options.texts("driver-opt")) | addresses,
        "GwPriority": options.number("gw-priority"),
    }
    session.engine.post(
        f"/networks/{network}/connect",
        body={"Container": container, "EndpointConfig": endpoint},
    )


@command(
    "[OPTIONS] NETWORK CONTAINER", exactly(2),
    switch("force", "Force the container to disconnect from a network", short="f"),
)  # fmt: skip
def disconnect(session: Session, options: Options) -> None:
    network, container = options.args
    body = {"Container": container, "Force": options.flag("force")}
    session.engine.post(f"/networks/{network}/disconnect", body=body)


@command(
    "NETWORK [NETWORK...]", at_least(1),
    _DRY_RUN,
    switch("force", "Do not error if the network does not exist", short="f"),
    _FORMAT,
)  # fmt: skip
def rm(session: Session, options: Options) -> int:
    if options.flag("dry-run"):
        from netkit.cli import netplan

        return netplan.removals(session, options, as_json=table.wants_json(options))
    _refuse_format(options)
    delete = session.engine.delete
    return removing.each(
        options.args, lambda name: delete(f"/networks/{name}"), absent=options.flag("force")
    )


@command(
    "[OPTIONS] [NETWORK...]", at_least(0),
    text("format", "'json', or nothing for text"),
    switch("quiet", "Print nothing, only exit with 1 if there is drift", short="q"),
)  # fmt: skip
def check(session: Session, options: Options) -> int:
    """Exit code 0: all is as it should be."""
    as_json = table.wants_json(options)
    found = session.engine.get("/netkit/networks/drift", {"network": list(options.args)})
    wrong = bool(found["Drift"] or found["Findings"])
    if as_json:
        import json

        print(json.dumps(found, indent=4))
    elif not options.flag("quiet"):
        for line in [*map(_drifted, found["Drift"]), *found["Findings"]]:
            print(line)
        if not wrong:
            print(
                "all networks are as they should be"
                if not options.args
                else f"as it should be: {', '.join(options.args)}"
            )
    return 1 if wrong else 0


def _drifted(found: Json) -> str:
    """One line of the diff: "+ veth veth01 (back, container web): left alone"."""
    whose = [found["Network"]] if found["Network"] else []
    whose += [f"container {found['Container']}"] if found["Container"] else []
    line = f"{found['Step']} ({', '.join(whose)})" if whose else found["Step"]
    return f"{line}: {found['Note']}" if found["Note"] else line

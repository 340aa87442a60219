"""weave run: docker run, in the background, of a container that is on the overlay, too."""

from __future__ import annotations

from netkit.cli import createflags
from netkit.cli.commands import Command, at_least
from netkit.cli.flags import Flag, Options, switch
from netkit.cli.run import created, exit_codes_of_run, request_body
from netkit.cli.weaveaddresses import ADDRESSES, looks_like_one
from netkit.cli.weaveflags import CONTAINERS_WITHOUT_EFFECT, DOMAIN, WITHOUT_DNS, note
from netkit.cli.weavestatus import required
from netkit.client.failure import ENGINE_ERROR, Failure, Misuse, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netkit.cli.session import Session
    from netkit.client.engine import Json

NETWORK = "weave"
INTERFACE = "ethwe"  # in the container, as weave has it
IFNAME = "com.docker.network.endpoint.ifname"
OPTION, NAMELESS = "netkit.addresses", "netkit.without-dns"
ADDRESS = "address"  # of Options: the leading ADDR...

FLAGS: tuple[Flag, ...] = (
    *createflags.RUN,
    WITHOUT_DNS,
    *(switch(name).replaced(hidden=True) for name in CONTAINERS_WITHOUT_EFFECT),
)
OWN = {*CONTAINERS_WITHOUT_EFFECT, WITHOUT_DNS.name}
MORE = (
    f"{ADDRESSES}\n"
    "Options are those of `netkit run`. The container is on the default network, too, or on those"
    "\nof --network; with --network none on the overlay only."
)


class _Run(Command):
    """Takes the addresses out before the flags of `run` are read."""

    def parse(self, path: str, args: Sequence[str]) -> Options:
        addresses, rest = split(args)
        if addresses and not rest:
            given = " ".join([path, *addresses])
            raise Misuse(f"no image is given: {given} [OPTIONS] IMAGE [COMMAND] [ARG...]")
        options = super().parse(path, rest)
        if looks_like_one(image := options.args[0]):
            raise Misuse(f"{image}: addresses are given before options of docker run", ENGINE_ERROR)
        return options.replaced(values={**options.values, ADDRESS: tuple(addresses)})


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (addresses, all other words): weave's own flags may come before addresses."""
    addresses: list[str] = []
    flags: list[str] = []
    for at, word in enumerate(words):
        if looks_like_one(word):
            addresses.append(word)
        elif word.startswith("--") and word[2:].partition("=")[0] in OWN:
            flags.append(word)
        else:
            return addresses, [*flags, *words[at:]]
    return addresses, flags


def _run(session: Session, options: Options) -> None:
    if options.texts("attach"):
        raise Misuse("--attach: the container is always in the background", ENGINE_ERROR)
    note(options, CONTAINERS_WITHOUT_EFFECT)
    body = on_overlay(options)
    with exit_codes_of_run(prefix=""):
        required(session)
        _require_network(session)
        container = created(session, options, body)
        session.engine.post(f"/containers/{container}/start")
    print(container)


run = _Run(_run, "[ADDR...] [OPTIONS] IMAGE [COMMAND] [ARG...]", at_least(1), FLAGS, False, MORE)


def _require_network(session: Session) -> None:
    """Failure where a user removed it: the container would be made, and not start."""
    try:
        session.engine.get(f"/networks/{NETWORK}")
    except Refused as refused:
        if refused.status != 404:
            raise
        raise Failure(f"network {NETWORK} was removed: `weave stop`, and launch again") from None


def on_overlay(options: Options) -> Json:
    """Return the body of a request for a container that is on the overlay.  Misuse."""
    aliases: list[str] = []
    if not options.values["network"]:  # else they are of the first of these, as docker has it
        aliases = options.texts("network-alias")
        options = options.replaced(values={**options.values, "network-alias": ()})
    body = request_body(options)
    body |= dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"), False)
    host, networks = body["HostConfig"], body["NetworkingConfig"]["EndpointsConfig"]
    mode = host["NetworkMode"]
    if mode == "host" or mode.startswith("container:"):
        raise Misuse(f"--network {mode}: such a container has no interfaces", ENGINE_ERROR)
    if mode == "none":
        host["NetworkMode"], networks = NETWORK, {}
    elif not networks:
        networks = {mode: {}}
    aliases += _alias_of(options)
    networks[NETWORK] = _endpoint(options, aliases, networks.get(NETWORK, {}))
    body["NetworkingConfig"]["EndpointsConfig"] = networks
    return body


def _endpoint(options: Options, aliases: list[str], given: Json) -> Json:
    """Return the settings of the container's place on the overlay."""
    driver = {IFNAME: INTERFACE, **given.get("DriverOpts", {})}
    addresses = [*options.texts(ADDRESS), *filter(None, [driver.get(OPTION)])]
    if addresses:  # those of --network weave:ADDR, too
        driver[OPTION] = " ".join(addresses)
    if options.flag("without-dns"):
        driver[NAMELESS] = "true"
    found = {**given, "DriverOpts": driver}
    if aliases := [*given.get("Aliases", ()), *aliases]:
        found["Aliases"] = aliases
    return found


def _alias_of(options: Options) -> list[str]:
    """Return the name that weave gives to `-h NAME.weave.local`."""
    parts = (options.text("hostname"), options.text("domainname"))
    name, dot, domain = ".".join(filter(None, parts)).rstrip(".").partition(".")
    return [name] if dot and domain == DOMAIN else []

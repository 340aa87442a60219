"""Check that this engine can run the platform given in a request."""

from __future__ import annotations

import msgspec

from netkit.errors import InvalidSpec, NotSupported
from runtime.api.server.request import ApiRequest

_SAME = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}


async def check_platform(call: ApiRequest, wanted: str) -> None:
    """Refuse an OS or architecture other than this host's.  os[/arch[/variant]] or JSON.

    Not with 404 as Docker: its client would then try to pull.
    """
    if not wanted:
        return
    ours = str((await call.executors.read(call.engine.system.version)).get("Arch", ""))
    os, arch = _parse(wanted)
    if os != "linux" or (arch and _SAME.get(arch, arch) != _SAME.get(ours, ours)):
        raise NotSupported(
            f"platform {wanted} is not available: this engine runs linux/{ours} only"
        )


def _parse(wanted: str) -> tuple[str, str]:
    if wanted.startswith("{"):
        try:
            given = msgspec.json.decode(wanted, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise InvalidSpec(f"invalid platform {wanted!r}: {error}") from error
        return str(given.get("os", "")), str(given.get("architecture", ""))
    os, _, rest = wanted.lower().partition("/")
    return os, rest.partition("/")[0]

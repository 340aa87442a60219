"""The request body that creates an access rule."""

from __future__ import annotations

from runtime.apitypes import ApiObject


class AccessRequest(ApiObject):
    """Body of POST /netkit/firewall/access; the source is `sources` (CIDR) or a container."""

    verdict: str = ""
    sources: list[str] | None = None
    container: str = ""
    to: str = ""
    port: str = ""  # 80/tcp, 8000-8010/udp; "": all
    published: bool = False  # the port is the host's
    first: bool = False  # before all other rules

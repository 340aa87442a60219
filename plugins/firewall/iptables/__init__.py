"""Which packets may pass, as iptables rules in the layout that Docker 28 and 29 made known."""

from plugins.firewall.iptables.rules import Iptables

__all__ = ["Iptables"]

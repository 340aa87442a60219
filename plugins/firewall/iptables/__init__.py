"""Render policies as iptables rules, in the layout of Docker 28 and 29."""

from plugins.firewall.iptables.rules import Iptables

__all__ = ["Iptables"]

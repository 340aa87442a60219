"""Which bridges show their frames to the host's rules, and what to type where one does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.kernel.iptables.br_netfilter import SETTINGS, shown
from tests.netns.conftest import Lab

pytestmark = pytest.mark.root


def test_what_is_not_shown_is_reported_with_the_command_that_shows_it(
    lab: Lab, tmp_path: Path
) -> None:
    lab.run("ip", "link", "add", "br9", "type", "bridge")
    with netns.inside(lab.home):
        knob = SETTINGS / "bridge-nf-call-iptables"
        if not knob.exists():
            pytest.skip("no br_netfilter here")
        knob.write_text("0")
    why = shown("br9", lab.home)
    lab.run(*why.split("`")[1].split())
    assert shown("br9", lab.home) == ""
    assert "modprobe br_netfilter" in shown("br9", lab.home, tmp_path)
    for link in ("lo", "absent"):  # no bridge, hence not subject to br_netfilter
        assert shown(link, lab.home, tmp_path) == ""

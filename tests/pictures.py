"""Take the pictures of docs/ui.md anew: sudo .venv/bin/python -m tests.pictures

Brings a lab up for it, under a name of its own.  Needs root, and what script/chromium unpacks.
"""

from __future__ import annotations

import subprocess
import sys
import time

from netkit.lab.running import RunningLab
from tests import browser
from tests.browser import Page
from tests.places import ROOT

FOLDER = ROOT / "docs/pictures"
LAB = str(ROOT / "labs/13-icc")
MOST = 150_000  # bytes of a picture
SETTLED = 1.5  # seconds until traffic has its rate, and what moves stands still


def main() -> None:
    if why := browser.missing():
        sys.exit(why)
    lab = RunningLab(LAB, "ui-13-icc")
    argv = [sys.executable, "-m", "netkit", "lab", "ui", "--name", lab.name, LAB]
    try:
        with browser.serving(argv) as url, browser.browser() as page:
            page.size(1280, 760)
            page.open(url)
            _finished(page, "up")
            _lab(lab, page)
            _shell(page)
    finally:
        lab.down()


def _finished(page: Page, verb: str) -> None:
    page.press(verb, "#lab")
    page.until(f"/✓ {verb}/.test(document.querySelector('#lab-standing').textContent)")


def _lab(lab: RunningLab, page: Page) -> None:
    """Traffic, an impaired link, checks, and a trace through the lab."""
    form = "document.querySelector('#impair').elements"
    page.run(f"{form}.link.value = 'outside@eth0', {form}.words.value = 'delay 20ms loss 1%'")
    page.press("Impair", "#impair")
    page.until("netkit.chart.cy.nodes('.nic.warn').length === 1")
    _finished(page, "check")
    page.trace("outside", "shut:8080", "")
    words = ["exec", "client", "ping", "-c40", "-i0.1", "-s1200", lab.web.ip]
    argv = [sys.executable, "-m", "netkit", "-H", lab.open.daemon.url, *words]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL):
        time.sleep(2 * SETTLED)
        _keep(page, "ui-lab")


def _shell(page: Page) -> None:
    """A container that was opened, a shell in it, and dark colours."""
    page.trace("db", "guest", "icmp")
    page.media(prefers_color_scheme="dark")
    page.press("List")
    page.press("db", "#list")
    page.press("Map")
    page.run("document.querySelector('#lab').hidden = true")
    page.press("Shell", "#details")
    time.sleep(SETTLED)
    page.type("ip addr show eth0\n")
    time.sleep(SETTLED)
    _keep(page, "ui-shell")


def _keep(page: Page, name: str) -> None:
    data = page.picture()
    assert len(data) <= MOST, f"{name} has {len(data)} bytes"
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(data)


if __name__ == "__main__":
    main()

"""A headless chromium, driven by its DevTools protocol over a pair of pipes: no port, no driver.

It is that of `script/chromium`; NETKIT_TEST_CHROMIUM names the program, or another folder with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.places import ROOT

VARIABLE, ABSENT = "NETKIT_TEST_CHROMIUM", "NETKIT_TEST_CHROMIUM_ABSENT"
PATIENCE = 60.0  # seconds
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--no-proxy-server", "--force-color-profile=srgb", "--lang=en",
    "--remote-debugging-pipe",
)  # fmt: skip


def program() -> str:
    """Path of chromium; "" if there is none."""
    folder = os.environ.get(VARIABLE) or ROOT / ".chromium/bin"
    found = Path(folder) / "chromium"
    return str(found) if found.exists() else ""


def missing() -> str:
    """Why there is no chromium, in one line; "" if there is."""
    if program():
        return ""
    why = os.environ.get(ABSENT) or "script/chromium unpacks it"
    return f"needs a headless chromium: {why}"


class Page:
    """One tab, and everything it has requested."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process, self._to, self._back = process, to, back
        self._rest = b""
        self._count = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.requested: list[str] = []  # URLs, those of web sockets as well
        self.problems: list[str] = []  # errors of the console, exceptions, what a policy refused
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Network", "Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    # the protocol

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; AssertionError if it is an error."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while self._count not in self._answers:
            self._read(deadline)
        answer = self._answers.pop(self._count)
        assert "error" not in answer, f"{method}: {answer}"
        found: dict[str, Any] = answer["result"]
        return found

    def _read(self, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._back, selectors.EVENT_READ)
            assert selector.select(max(0.0, deadline - time.monotonic())), "chromium hangs"
        data = os.read(self._back, 1 << 20)
        assert data, f"chromium has ended: {self._process.wait(PATIENCE)}"
        *whole, self._rest = (self._rest + data).split(b"\0")
        for each in whole:
            self._take(json.loads(each))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        params = message.get("params", {})
        match message["method"]:
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requested.append(params["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.problems.append(f"{params['entry']['text']} {params['entry'].get('url')}")

    # the page

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def until(self, script: str, seconds: float = PATIENCE) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script)):
            if time.monotonic() > deadline:
                shown = self.run("document.body.innerText")
                raise AssertionError(f"not within {seconds:g} s: {script}\n{shown}")
            time.sleep(0.02)
        return found

    def key(self, name: str, *, shift: bool = False) -> None:
        """Press and release a key: "Tab", "ArrowDown", "Enter", or a character."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38,
                 "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "F6": 117}  # fmt: skip
        text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        plain = ord(name.upper()) if len(name) == 1 and name.isalnum() else 0
        given = {"key": name, "windowsVirtualKeyCode": codes.get(name, plain),
                 "modifiers": 8 if shift else 0}  # fmt: skip
        kind = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, text=text, **given)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def type(self, text: str) -> None:
        for character in text:
            self.key("Enter" if character == "\n" else character)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def size(self, width: int, height: int) -> None:
        """Of the window, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def media(self, **features: str) -> None:
        """Media features, with "_" for "-"."""
        given = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        self.call("Emulation.setEmulatedMedia", features=given)

    def press(self, button: str, within: str = "body") -> None:
        """Click the button with this text, as soon as it is there and enabled."""
        found = f"[...document.querySelectorAll('{within} button')].find(b => b.textContent === "
        found += f"{json.dumps(button)} && !b.disabled)"
        self.until(f"!!{found}")
        self.run(f"{found}.click()")

    def text(self, selector: str) -> str:
        """What is seen of an element."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def trace(self, source: str, target: str, service: str) -> str:
        """Fill in the form, and return the verdict shown."""
        given = json.dumps({"from": source, "to": target, "service": service})
        self.run(f"""(() => {{
            const form = document.querySelector("#trace");
            document.querySelector("#trace-result").replaceChildren();
            for (const [name, value] of Object.entries({given})) form.elements[name].value = value;
            form.requestSubmit();
        }})()""")
        found: str = self.until("document.querySelector('#trace-result .verdict')?.innerText")
        return found

    def picture(self) -> bytes:
        """PNG of what is seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def serving(argv: Sequence[str], **more: Any) -> Iterator[str]:
    """The link that a command prints, which serves until Ctrl-C, and prints no error."""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **more,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
            assert (process.wait(PATIENCE), errors) == (128 + signal.SIGINT, "")


@contextmanager
def browser() -> Iterator[Page]:
    """One with an empty profile, which ends with the block."""
    to_read, to = os.pipe()
    back, back_write = os.pipe()
    with (
        tempfile.TemporaryDirectory(prefix="nk-browser-", ignore_cleanup_errors=True) as profile,
        open(f"{profile}/log", "wb") as log,
    ):
        # It reads descriptor 3 and writes 4, whatever their numbers are here.
        script = (
            "import os, sys\n"
            "ends = [os.dup(os.dup(int(n))) for n in sys.argv[1:3]]\n"
            "for end, number in zip(ends, (3, 4)): os.dup2(end, number)\n"
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        ends = (str(to_read), str(back_write))
        process = subprocess.Popen(
            [sys.executable, "-ISc", script, *ends, program(), f"--user-data-dir={profile}/data",
             *FLAGS],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            pass_fds=(to_read, back_write), env={**os.environ, "XDG_CACHE_HOME": profile},
        )  # fmt: skip
        os.close(to_read)
        os.close(back_write)
        try:
            yield Page(process, to, back)
        finally:
            os.close(to)
            os.close(back)
            with contextlib.suppress(ProcessLookupError):  # a group of its own, with its helpers
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

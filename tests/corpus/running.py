"""Find cases, run them, compare."""

from __future__ import annotations

import http.server
import json
import shutil
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.corpus.operations import PORT, Case
from tests.corpus.talking import Daemon
from tests.corpus.trees import base, content, node

HERE = Path(__file__).parent
BASE = "nk/base"
_CHANGES = (
    'CMD ["/bin/sh"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


def cases(what: Sequence[str] = ()) -> list[str]:
    """Names, "area/nn-name"; `what`: areas, or beginnings of names."""
    found = sorted(f"{p.parts[-3]}/{p.parts[-2]}" for p in HERE.glob("cases/*/*/case.json"))
    return [name for name in found if not what or any(name.startswith(word) for word in what)]


def path(name: str) -> Path:
    return HERE / "cases" / name / "case.json"


def specification(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path(name).read_text())
    return found


class Runner:
    """Runs cases on a spare daemon."""

    def __init__(self, host: str) -> None:
        self._daemon = Daemon(host)
        self._scratch = tempfile.mkdtemp(prefix="nkc-")
        self._urls: dict[str, Any] = {}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the URLs of cases; in the daemon's network namespace."""
        (Path(self._scratch) / "cfg").mkdir()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), _handler(self._urls))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
            self._clean()
        finally:
            server.shutdown()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, name: str) -> list[Any]:
        """The results of a case's operations."""
        spec = specification(name)
        self._clean()
        self._ensure_base()
        self._urls.clear()
        self._urls.update(spec.get("urls", {}))
        try:
            got = Case(self._daemon, spec, self._scratch).run()
        except Exception as error:
            return [{"exception": f"{type(error).__name__}: {error}"}]
        wanted = spec.get("expect") or []
        for index in spec.get("free", []):  # recorded for the reader, not asked of others
            if index < min(len(got), len(wanted)):
                got[index] = wanted[index]
        return got

    def _clean(self) -> None:
        daemon = self._daemon
        for container in daemon.json("GET", "/containers/json", query={"all": "1"})[1] or []:
            query = {"force": "1", "v": "1"}
            daemon.call("DELETE", f"/containers/{container['Id']}", query=query)
        for _ in range(6):
            images = daemon.json("GET", "/images/json", query={"all": "0"})[1] or []
            rest = [i for i in images if (i.get("RepoTags") or []) != [f"{BASE}:latest"]]
            if not rest:
                break
            for image in rest:
                kept = {"<none>:<none>", f"{BASE}:latest"}
                names = [n for n in image.get("RepoTags") or [] if n not in kept]
                for ref in names or [image["Id"]]:
                    quoted = urllib.parse.quote(ref)
                    daemon.call("DELETE", f"/images/{quoted}", query={"force": "1"})
        for volume in (daemon.json("GET", "/volumes")[1] or {}).get("Volumes") or []:
            daemon.call("DELETE", f"/volumes/{volume['Name']}", query={"force": "1"})

    def _ensure_base(self) -> None:
        if self._daemon.json("GET", f"/images/{BASE}/json")[0] == 200:
            return
        query = {"fromSrc": "-", "repo": BASE, "changes": _CHANGES}
        status, said = self._daemon.tar("/images/create", base(), query)
        if status != 200:
            raise RuntimeError(f"import of the base image fails: {status} {said[:300]!r}")


def _handler(urls: Mapping[str, Any]) -> type[http.server.BaseHTTPRequestHandler]:
    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            spec = urls.get(urllib.parse.urlsplit(self.path).path)
            if spec is None:
                self.send_error(404)
                return
            found = node(spec)
            data = content(found)
            self.send_response(found.get("status", 200))
            for name, value in found.get("headers", {}).items():
                self.send_header(name, value.replace("{port}", str(PORT)))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    return Files


def differences(wanted: Any, got: Any, place: str = "") -> list[tuple[str, str]]:
    """(place, what is different there) of each difference: ("[3].error", "wanted ...")."""
    if type(wanted) is type(got) and isinstance(wanted, dict):
        found = []
        for name in dict.fromkeys([*wanted, *got]):
            at = f"{place}.{name}"
            if name not in wanted:
                found.append((at, f"only got {got[name]!r}"))
            elif name not in got:
                found.append((at, f"missing, wanted {wanted[name]!r}"))
            else:
                found += differences(wanted[name], got[name], at)
        return found
    if type(wanted) is type(got) and isinstance(wanted, list) and len(wanted) == len(got):
        pairs = enumerate(zip(wanted, got, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{place}[{i}]")]
    return [] if wanted == got else [(place, f"wanted {wanted!r}\n      got    {got!r}")]


def expected(name: str) -> tuple[list[Any], list[str]]:
    """(the results that netkit gives, places where any will do).

    What dockerd gave, but for operations that cases/NAME/netkit.json has, with the reason.
    """
    wanted = list(specification(name)["expect"])
    own = path(name).with_name("netkit.json")
    if not own.exists():
        return wanted, []
    known = json.loads(own.read_text())
    for index, result in known.get("expect", {}).items():
        wanted[int(index)] = result
    return wanted, known.get("any", [])


def timed(runner: Runner, name: str) -> tuple[list[Any], float]:
    begin = time.monotonic()
    return runner.run(name), time.monotonic() - begin

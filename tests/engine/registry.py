"""Debian's docker-registry in a namespace: plain, with TLS, with a password."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.engine.wire import inside, run

PROGRAM = "docker-registry"


def lacking() -> str:
    """What the machine lacks, "" if nothing."""
    for program in (PROGRAM, "htpasswd", "skopeo", "openssl"):
        if not shutil.which(program):
            return f"needs {program} in PATH"
    return ""


class Registry:
    """One registry at 127.0.0.1:`port` of a namespace; `url` as curl needs it."""

    def __init__(
        self, netns: str, port: int = 5000, *, tls: bool = False, password: str = "",
        address: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self.netns, self.name = netns, f"{address}:{port}"
        self.folder = Path(tempfile.mkdtemp(prefix="nkreg.", dir="/tmp"))
        self.scheme = "https" if tls else "http"
        self.ca = self.folder / "ca.crt"
        self._password = password
        http = [f"  addr: {self.name}"]
        if tls:
            self._certify(address)
            http += [
                "  tls:",
                f"    certificate: {self.folder}/server.crt",
                f"    key: {self.folder}/server.key",
            ]
        auth = []
        if password:
            user, _, word = password.partition(":")
            made = subprocess.run(
                ["htpasswd", "-Bbn", user, word], check=True, capture_output=True, timeout=60
            )
            (self.folder / "htpasswd").write_bytes(made.stdout)
            users = self.folder / "htpasswd"
            auth = ["auth:", "  htpasswd:", "    realm: netkit", f"    path: {users}"]
        lines = [
            "version: 0.1", "log:", "  level: info", "storage:", "  filesystem:",
            f"    rootdirectory: {self.folder}/data", "  delete:", "    enabled: true",
            "http:", *http, *auth, "",
        ]  # fmt: skip
        (self.folder / "config.yml").write_text("\n".join(lines))
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self.folder / "log"
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                inside(self.netns, PROGRAM, "serve", str(self.folder / "config.yml")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while self.curl("/v2/") is None:
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def curl(self, path: str, *flags: str) -> str | None:
        user = ["-u", self._password] if self._password else []
        done = run(
            self.netns, "curl", "-sSk", "--noproxy", "*", "--max-time", "5", *user, *flags,
            f"{self.scheme}://{self.name}{path}",
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else None

    def tags(self, repository: str) -> list[str]:
        found = json.loads(self.curl(f"/v2/{repository}/tags/list") or "{}")
        return sorted(found.get("tags") or ())

    def requests(self) -> list[str]:
        """"METHOD path" of all requests so far, in order, as the registry logs them."""
        lines = []
        for line in self.log.read_text(errors="replace").splitlines():
            if '"' not in line or " HTTP/1." not in line or not line.startswith(("127.", "10.")):
                continue
            lines.append(line.split('"')[1].rpartition(" ")[0])
        return lines

    def skopeo(self, *args: str) -> subprocess.CompletedProcess[str]:
        return run(self.netns, "skopeo", *args, timeout=60)

    def _certify(self, address: str) -> None:
        """A CA, and a certificate of it for the address."""

        def openssl(*args: str) -> None:
            subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=60)

        at = self.folder
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.crt", "-days", "3650", "-subj",
                "/CN=netkit test CA", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                "keyUsage=critical,keyCertSign")  # fmt: skip
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{at}/server.key", "-out", f"{at}/server.csr", "-subj",
                f"/CN={address}")  # fmt: skip
        (at / "ext").write_text(f"subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", f"{at}/server.csr", "-CA", f"{at}/ca.crt", "-CAkey",
                f"{at}/ca.key", "-CAcreateserial", "-days", "3650", "-extfile", f"{at}/ext",
                "-out", f"{at}/server.crt")  # fmt: skip

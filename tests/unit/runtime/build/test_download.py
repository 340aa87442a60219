"""URLs of ADD and remote contexts: what servers may do, and that every wait ends."""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netkit.errors import Forbidden, InvalidSpec, NetkitError, NotFound
from runtime import limits
from runtime.build import git, remote
from runtime.build.copying import CopyRequest, Sources, gather
from runtime.build.download import Download, _proxy
from runtime.build.errors import BuildFailed
from tests.unit.runtime.build.trees import FROM, left, packed

Speak = Callable[[socket.socket, bytes], None]


class Server:
    """Answers each request, by its path, with given bytes or by a function; one per connection."""

    def __init__(self, answers: dict[str, bytes | Speak]) -> None:
        self.answers = answers
        self.heads: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (more := client.recv(4096)):
                head += more
                if head.startswith(b"\x16"):  # TLS: what a server without it says
                    client.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    return
            self.heads.append(head)
            path = head.split(b" ")[1].decode()
            answer = self.answers.get(path, reply("no such page", "404 Not Found"))
            if isinstance(answer, bytes):
                client.sendall(answer)
            else:
                answer(client, head)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for a client
        self._socket.close()
        self._thread.join()


def reply(text: str | bytes, status: str = "200 OK", **headers: str) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def moved(target: str) -> bytes:
    return reply("", "302 Found", Location=target)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server({})
    yield found
    found.close()


def add(url: str, folder: Path, destination: str = "/x/") -> Sources:
    request = CopyRequest(sources=(url,), destination=destination, is_add=True)
    return gather(request, None, folder, lambda _: None)


def read(url: str) -> bytes:
    with Download(url) as body:
        data = b""
        while more := body.read(1 << 16):
            data += more
        return data


def test_a_file_has_the_urls_name_and_the_servers_time(server: Server, tmp_path: Path) -> None:
    server.answers["/d/f.txt?q=1"] = reply("text", Last_Modified="Fri, 14 Jul 2017 02:40:00 GMT")
    with add(server.url("/d/f.txt?q=1#part"), tmp_path) as sources:
        (found,) = sources.found
        st = os.stat("content", dir_fd=found.root.fd)
        assert (found.name, int(st.st_mtime), oct(st.st_mode)) == (
            "f.txt",
            1_500_000_000,
            "0o100600",
        )
        assert len(sources.digest) == 64
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/a%20b", {}, "a b"),
        ("/f", {"Content_Disposition": 'attachment; filename="other"'}, "f"),
        ("/d/", {"Content_Disposition": 'attachment; filename="../named.txt"'}, "named.txt"),
    ],
)
def test_names_of_files(
    path: str, headers: dict[str, str], name: str, server: Server, tmp_path: Path
) -> None:
    server.answers[path] = reply("text", **headers)
    with add(server.url(path), tmp_path) as sources:
        assert [found.name for found in sources.found] == [name]


@pytest.mark.parametrize("path", ["/", "/d/", "/..", "/."])
def test_a_file_without_a_name_needs_one(path: str, server: Server, tmp_path: Path) -> None:
    server.answers[path] = reply("text", Content_Disposition='attachment; filename=".."')
    url = server.url(path)
    with pytest.raises(BuildFailed, match="ADD failed: cannot determine filename for source"):
        add(url, tmp_path)
    with add(url, tmp_path, "/x") as sources:
        assert sources.found[0].name == "__unnamed__"


def test_the_digest_is_of_name_and_content(server: Server, tmp_path: Path) -> None:
    pages = {"/f": "same", "/g/f": "same", "/h": "same", "/i/f": "other"}
    found = {}
    for path, text in pages.items():
        server.answers[path] = reply(
            text, Last_Modified="Fri, 14 Jul 2017 02:40:00 GMT" * (path == "/f")
        )
        with add(server.url(path), tmp_path) as sources:
            found[path] = sources.digest
    assert found["/f"] == found["/g/f"]
    assert len(set(found.values())) == 3


def test_redirects_are_followed(server: Server) -> None:
    server.answers |= {"/a": moved("/b"), "/b": moved(server.url("/c?x=y")), "/c?x=y": reply("end")}
    assert read(server.url("/a")) == b"end"


BROKEN: dict[str, tuple[bytes | Speak, str]] = {
    "redirects in a circle": (moved("/p"), 'Get "{url}": stopped after 10 redirects'),
    "a redirect to a file": (moved("file:///etc/passwd"),
                             'Get "file:///etc/passwd": unsupported protocol scheme "file"'),
    "a redirect to a bad port": (moved("http://127.0.0.1:99999/"),
                                 'Get "http://127.0.0.1:99999/": dial tcp: address 99999: invalid '
                                 "port"),
    "no HTTP": (b"SSH-2.0-x\r\n\r\n", 'Get "{url}": malformed HTTP response: SSH-2.0-x'),
    "a redirect to nowhere": (moved("http://[::1"), 'Get "{url}": failed to parse Location header '
                                                    "'http://[::1': invalid URL"),
    "nothing": (b"", 'Get "{url}": EOF'),
    "a head without an end": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
                              'Get "{url}": malformed HTTP response: got more than 100 headers'),
    "a line without an end": (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
                              'Get "{url}": malformed HTTP response: got more than 65536 bytes '
                              "when reading header line"),
    "less than promised": (reply("text")[:-2], "{url}: unexpected EOF"),
    "a chunk cut short": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                          "{url}: unexpected EOF"),
    "a chunk of no size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
                           "{url}: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_one_clear_line(name: str, server: Server) -> None:
    server.answers["/p"], text = BROKEN[name]
    with pytest.raises(BuildFailed) as raised:
        read(server.url("/p"))
    said = str(raised.value)
    assert said.startswith(text.format(url=server.url("/p")))
    assert "\n" not in said


@pytest.mark.parametrize(
    ("status", "kind"),
    [("400 Bad Request", InvalidSpec), ("403 Forbidden", Forbidden), ("404 Not Found", NotFound),
     ("500 Internal Server Error", BuildFailed)],
)  # fmt: skip
def test_a_refusal_is_shown(status: str, kind: type[NetkitError], server: Server) -> None:
    server.answers["/p"] = reply("\n why\n" + "x" * 10_000, status)
    with pytest.raises(kind) as raised:
        Download(server.url("/p"))
    text = f"failed to GET {server.url('/p')} with status {status}: why\nxxx"
    assert str(raised.value).startswith(text)
    assert len(str(raised.value)) < 5000


def test_a_closed_port_and_a_name_that_is_not_there() -> None:
    with pytest.raises(BuildFailed) as raised:
        Download("http://127.0.0.1:1/x")
    assert str(raised.value) == (
        'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://a:b@[::1", 'Get "http://***@[::1": invalid URL'),
        ("http://\u2100.com/", 'Get "http://\u2100.com/": invalid URL'),
        ("http://a..b/", 'Get "http://a..b/": invalid host name'),
        (f"http://{'a' * 70}.com/", f'Get "http://{"a" * 70}.com/": invalid host name'),
        ("http://", 'Get "http://": http: no Host in request URL'),
    ],
)
def test_of_a_bad_url_is_said_what_is_bad(url: str, said: str) -> None:
    with pytest.raises(BuildFailed) as raised:
        Download(url)
    assert str(raised.value) == said


def test_a_server_without_tls_is_not_asked_for_it(server: Server) -> None:
    server.answers["/x"] = reply("x")
    url = f"https://127.0.0.1:{server.port}/x"
    with pytest.raises(BuildFailed, match="tls: "):
        Download(url)


def test_a_password_goes_to_its_host_alone(server: Server) -> None:
    other = Server({"/end": reply("end")})
    try:
        server.answers |= {"/a": moved("/b"), "/b": moved(other.url("/end"))}
        assert read(f"http://us%40er:s3cret@127.0.0.1:{server.port}/a") == b"end"
        login = base64.b64encode(b"us@er:s3cret")
        assert [login in head for head in server.heads] == [True, True]
        assert b"Authorization" not in other.heads[0]
        assert b"s3cret" not in server.heads[0].split(b"\r\n")[0]
    finally:
        other.close()
    with pytest.raises(BuildFailed) as raised:
        Download("http://us:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(raised.value)


def _dripping(client: socket.socket, _: bytes) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(b"x")
        time.sleep(0.01)


def _silent(client: socket.socket, _: bytes) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
    client.recv(1)


def _endless_head(client: socket.socket, _: bytes) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def _endless(client: socket.socket, _: bytes) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(bytes(1 << 16))


ENDLESS: dict[str, tuple[Speak, str, str]] = {
    "dripping": (_dripping, "REMOTE_SECONDS", "the server takes too long"),
    "silent": (_silent, "REMOTE_IDLE_SECONDS", "the server takes too long"),
    "a head without an end": (_endless_head, "REMOTE_HEAD_SECONDS", "the server takes too long"),
    "a body without an end": (_endless, "REMOTE_BYTES", "more than 0.1 bytes: refused"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_every_wait_ends(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/p"], bound, text = ENDLESS[name]
    monkeypatch.setattr(limits, bound, 0.1)
    begun = time.monotonic()
    with pytest.raises(BuildFailed, match=text):
        read(server.url("/p"))
    assert time.monotonic() - begun < 2


@pytest.mark.slow
def test_a_client_that_leaves_ends_a_download(server: Server) -> None:
    server.answers["/p"] = _silent
    begun = time.monotonic()

    def check() -> None:
        if time.monotonic() - begun > 0.2:
            raise ConnectionResetError("the client has left")

    with Download(server.url("/p"), check) as body:
        assert body.read(1) == b"x"
        with pytest.raises(ConnectionResetError):
            body.read(1)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("environment", "host", "expected"),
    [
        ({"http_proxy": "http://proxy:3128"}, "example.org", ("proxy", 3128)),
        ({"http_proxy": "proxy:3128"}, "example.org", ("proxy", 3128)),
        ({"http_proxy": "http://proxy:3128"}, "127.0.0.1", None),
        ({"http_proxy": "http://proxy:3128"}, "localhost", None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": ".org"}, "example.org", None),
        ({"https_proxy": "http://proxy:3128"}, "example.org", None),
    ],
)
def test_proxies_are_those_of_the_environment(
    environment: dict[str, str], host: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _proxy("http", host, 80) == expected


# remote contexts


def fetch(url: str, folder: Path, dockerfile: str = "") -> bytes:
    with remote.fetch(
        url, folder, dockerfile=dockerfile, report=lambda _: None, check=lambda: None
    ) as found:
        return found.dockerfile


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain; charset=utf-8", "", "application/octet-stream"]
)
def test_a_remote_dockerfile_is_one_without_a_context(
    kind: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/df"] = reply(FROM, **({"Content_Type": kind} if kind else {}))
    assert fetch(server.url("/df"), tmp_path) == FROM.encode()
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["application/x-tar", "application/x-gzip", ""])
def test_a_remote_archive_is_a_context(kind: str, server: Server, tmp_path: Path) -> None:
    data = packed({"Dockerfile": FROM, "sub/File": "FROM sub\n"})
    server.answers["/c.tar"] = reply(data, **({"Content_Type": kind} if kind else {}))
    assert fetch(server.url("/c.tar"), tmp_path, "sub/File") == b"FROM sub\n"
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (reply("<html>", Content_Type="text/html"),
         'error detecting content type for remote {url}: unsupported Content-Type "text/html"'),
        (reply(""), "error detecting content type for remote {url}: empty response"),
        (reply("", "404 Not Found"),
         "error downloading remote context {url}: failed to GET {url} with status 404 Not Found: "),
        (reply(bytes(range(200)), Content_Type="application/octet-stream"), "unexpected EOF"),
    ],
)  # fmt: skip
def test_what_is_no_context_is_refused(
    answer: bytes, text: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/x"] = answer
    with pytest.raises(NetkitError) as raised:
        fetch(server.url("/x"), tmp_path)
    assert str(raised.value) == text.format(url=server.url("/x"))
    assert os.listdir(tmp_path) == []


def test_only_urls_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"remoteURL \(/etc\) could not be recognized as URL"):
        fetch("/etc", tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/x.git", ("https://h/x.git", "HEAD", "")),
        ("https://h/x.git#main:d/e", ("https://h/x.git", "main", "d/e")),
        ("git://h/x#:d", ("git://h/x", "HEAD", "d")),
        ("github.com/a/b#v1", ("https://github.com/a/b", "v1", "")),
        ("git@h:a/b", ("git@h:a/b", "HEAD", "")),
    ],
)
def test_urls_of_repositories(text: str, expected: tuple[str, str, str]) -> None:
    assert git.is_git_url(text)
    found = git.parse(text)
    assert (found.remote, found.ref, found.folder) == expected


@pytest.mark.parametrize("text", ["https://h/x", "https://h/x.git/y", "ssh://h/x", "/x.git"])
def test_other_urls_are_of_no_repository(text: str) -> None:
    assert not git.is_git_url(text)


def test_a_reference_is_no_option(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="invalid refspec: --upload-pack=x"):
        fetch("git://h/x#--upload-pack=x", tmp_path)
    assert os.listdir(tmp_path) == []

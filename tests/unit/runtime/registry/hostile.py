"""What hostile and broken registries do: a table of names, scripts, and the error that is due."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.unit.runtime.registry.scripted import (
    CONFIG,
    DOCKER,
    LIST,
    Image,
    Server,
    close,
    digest,
    dripping,
    endlessly,
    errors,
    hang,
    layer_tar,
    reply,
    then,
)


@dataclass
class Place:
    """The registry, another host that it may send us to, and a good image in the registry."""

    hub: Server
    other: Server
    image: Image = field(default_factory=Image)

    @property
    def manifest(self) -> str:
        return digest(json.dumps(self.image.manifest()).encode())

    @property
    def config(self) -> str:
        return f"GET /v2/app/blobs/{digest(self.image.raw_config)}"

    @property
    def layer(self) -> str:
        return f"GET /v2/app/blobs/{digest(self.image.blob)}"


Script = Callable[[Place], Any]


@dataclass(frozen=True)
class Case:
    name: str
    script: Script
    error: str  # a regular expression of it; "" if all goes well nevertheless
    act: str = "pull"
    public: bool = False  # the registry has a public address, as far as the client can tell
    login: bool = True


CASES: list[Case] = []


def case(error: str, **more: Any) -> Callable[[Script], Script]:
    def add(script: Script) -> Script:
        CASES.append(Case(script.__name__, script, error, **more))
        return script

    return add


def simple(kind: str, key: str, table: dict[str, tuple[Any, str]], **more: Any) -> None:
    """Cases of which the answer to one request is all."""
    for name, (answer, error) in table.items():

        def script(place: Place, answer: Any = answer) -> None:
            where = {"layer": place.layer, "config": place.config}.get(key, key)
            place.hub.answers[where] = answer(place) if callable(answer) and (
                getattr(answer, "__name__", "") == "<lambda>"
            ) else answer

        CASES.append(Case(f"{kind}: {name}", script, error, **more))


# -- the first answer ------------------------------------------------------------

_FEW = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
simple("ping", "GET /v2/", {
    "closed at once": (close, "EOF"),
    "half a status line": (then(b"HTTP/1."), "not HTTP|EOF"),
    "another protocol": (then(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
    "a status that is no number": (then(b"HTTP/1.1 abc OK\r\n\r\n"), "not HTTP"),
    "status 42": (then(b"HTTP/1.1 42 X\r\n\r\n"), "not HTTP"),
    "binary": (then(bytes(range(256)) * 10), "not HTTP"),
    "an endless status line": (endlessly(b"", b"H" * 4096), "not HTTP|longer"),
    "an endless header": (endlessly(_FEW + b"X: ", b"x" * 4096), "not HTTP|longer"),
    "endless headers": (endlessly(_FEW, b"X: y\r\n" * 500), "not HTTP|longer"),
    "a dripping head": (dripping(_FEW, b"X"), "timeout"),
    "a dripping status line": (dripping(b"", b"H"), "timeout"),
    "silence": (hang, "timeout"),
    "endless 100 Continue": (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), "longer"),
    "an endless body": (endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), "over|longer"),
    "a dripping body": (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"), "timeout"),
    "a redirect to itself": (reply(302, Location="/v2/"), "more than 5 redirects"),
    "a redirect without a place": (reply(302), "without a Location"),
    "a redirect to a file": (reply(302, Location="file:///etc/passwd"), "refused"),
    "a redirect to gopher": (reply(302, Location="gopher://127.0.0.1/"), "refused"),
    "a redirect with a password": (reply(302, Location="http://a:b@127.0.0.1/"), "refused"),
    "a redirect to port 99999": (reply(302, Location="http://127.0.0.1:99999/"), "malformed"),
    "a redirect with a blank": (reply(302, Location="http://127.0.0.1/ x"), "malformed"),
    "a redirect to no host": (reply(302, Location="http:///v2/"), "redirects"),
    "a redirect to link-local": (
        reply(302, Location="http://169.254.169.254/latest/meta-data"), "link-local"),
    "a redirect to IPv6 link-local": (reply(302, Location="http://[fe80::1]/"), "link-local"),
    "a mapped link-local": (
        reply(302, Location="http://[::ffff:169.254.169.254]/"), "link-local"),
})  # fmt: skip
simple("ping, public", "GET /v2/", {
    "a redirect to loopback": (reply(302, Location="http://127.0.0.1:1/"), "on loopback"),
    "a redirect to 0.0.0.0": (reply(302, Location="http://0.0.0.0:1/"), "on loopback"),
    "a redirect to ::1": (reply(302, Location="http://[::1]:1/"), "on loopback"),
    "a redirect to mapped loopback": (
        reply(302, Location="http://[::ffff:127.0.0.1]:1/"), "on loopback"),
    "a redirect to a name of loopback": (reply(302, Location="http://localhost:1/"), "loopback"),
    "a redirect to loopback as a number": (
        reply(302, Location="http://2130706433:1/"), "loopback|no such host"),
    "a redirect to a private network": (reply(302, Location="http://10.0.0.1/"), "private"),
    "a redirect to carrier-grade NAT": (reply(302, Location="http://100.64.0.1/"), "private"),
    "a redirect to unique local": (reply(302, Location="http://[fd00::1]/"), "private"),
}, public=True)  # fmt: skip


# -- challenges and tokens -------------------------------------------------------


def bearer(realm: str, **more: str) -> bytes:
    parts = ", ".join(f'{k}="{v}"' for k, v in {"realm": realm, "service": "s", **more}.items())
    return errors(401, "UNAUTHORIZED", "log in", WWW_Authenticate=f"Bearer {parts}")


def challenged(place: Place, token: Any, realm: str = "") -> None:
    place.hub.answers["GET /v2/"] = bearer(realm or f"http://{place.hub.name}/token")
    place.hub.answers["GET /token"] = token


@case("no basic auth credentials", login=False)
def basic_and_no_login(place: Place) -> None:
    place.hub.answers["GET /v2/"] = errors(401, "UNAUTHORIZED", "x", WWW_Authenticate="Basic")


@case("go away please")
def basic_and_the_password_is_wrong(place: Place) -> None:
    place.hub.answers["GET /v2/"] = errors(401, "X", "x", WWW_Authenticate='Basic realm="x"')
    for verb in ("HEAD", "GET"):
        place.hub.answers[f"{verb} /v2/app/"] = errors(401, "UNAUTHORIZED", "go away please")
        place.hub.answers[f"{verb} /v2/app/manifests/1"] = errors(
            401, "UNAUTHORIZED", "go away please"
        )


@case("unencrypted")
def the_realm_is_another_host(place: Place) -> None:
    challenged(place, b"", f"http://{place.other.name}/token")


@case("")
def the_realm_is_another_host_and_there_is_no_password(place: Place) -> None:
    challenged(place, b"", f"http://{place.other.name}/token")
    place.other.answers["GET /token"] = reply(200, b'{"token": "tkn-3f2a"}')


CASES[-1] = Case(**{**CASES[-1].__dict__, "login": False})


@case("")
def the_realm_redirects_elsewhere(place: Place) -> None:
    challenged(place, reply(302, Location=f"http://{place.other.name}/token"))
    place.other.answers["GET /token"] = reply(200, b'{"token": "tkn-3f2a"}')


@case("")
def a_good_token(place: Place) -> None:
    challenged(place, reply(200, b'{"access_token": "tkn-3f2a", "expires_in": 1e300}'))


for _name, _realm, _error, _public in (
    ("of a file", "file:///etc/passwd", "refused", False),
    ("that is empty", "", "no realm", False),
    ("that is no URL", "not a url", "refused|malformed", False),
    ("that is link-local", "http://169.254.169.254/", "unencrypted|link-local", False),
    ("on loopback", "https://127.0.0.1:1/token", "on loopback", True),
    ("on IPv6 loopback", "https://[::1]:1/token", "on loopback", True),
    ("in a private network", "https://192.168.0.1/token", "private", True),
    ("that is link-local, from outside", "https://169.254.169.254/token", "link-local", True),
    ("with a password", "https://me:word@1.2.3.4/token", "refused", True),
):

    def _with_realm(place: Place, realm: str = _realm) -> None:
        place.hub.answers["GET /v2/"] = bearer(realm)

    CASES.append(Case(f"a realm {_name}", _with_realm, _error, public=_public))

for _name, (_answer, _error) in {
    "no JSON": (reply(200, b"<html>"), "answer"),
    "no token": (reply(200, b"{}"), "no token"),
    "null": (reply(200, b"null"), "malformed"),
    "a token that is a number": (reply(200, b'{"token": 7}'), "malformed"),
    "a token with a new line": (reply(200, b'{"token": "a\\r\\nX-Evil: 1"}'), "no token"),
    "a token that is not ASCII": (reply(200, '{"token": "ä"}'.encode()), "no token"),
    "an endless token": (endlessly(b'HTTP/1.1 200 X\r\n\r\n{"token": "', b"x" * 9999), "over|long"),
    "a token of a megabyte": (reply(200, b'{"token": "' + b"x" * (1 << 20) + b'"}'), "over"),
    "a deep answer": (reply(200, b"[" * 200), "answer"),
    "a refusal": (errors(401, "UNAUTHORIZED", "wrong password here"), "wrong password here"),
    "details": (reply(401, b'{"details": "incorrect name or word"}'), "incorrect name or word"),
    "a failure": (reply(500, b"boom"), "500.*boom"),
    "silence": (hang, "timeout"),
    "dripping": (dripping(b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n"), "timeout"),
    "an answer cut short": (then(b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{"), "EOF"),
}.items():

    def _with_token(place: Place, answer: Any = _answer) -> None:
        challenged(place, answer)

    CASES.append(Case(f"a token server: {_name}", _with_token, _error))


@case("requested access to the resource is denied")
def the_token_does_not_suffice(place: Place) -> None:
    challenged(place, reply(200, b'{"token": "tkn-3f2a"}'))
    refusal = errors(
        401, "UNAUTHORIZED", "authentication required",
        WWW_Authenticate='Bearer realm="x",error="insufficient_scope"',
    )  # fmt: skip
    for verb in ("HEAD", "GET"):
        place.hub.answers[f"{verb} /v2/app/manifests/1"] = refusal


@case("no realm")
def a_challenge_that_is_broken(place: Place) -> None:
    text = 'Bearer realm="http://127.0.0.1/, service=""",, ="x" Basic'
    place.hub.answers["GET /v2/"] = reply(401, WWW_Authenticate=text)


@case("")
def a_challenge_of_an_unknown_scheme(place: Place) -> None:
    place.hub.answers["GET /v2/"] = reply(401, WWW_Authenticate="Negotiate abc==")


# -- manifests -------------------------------------------------------------------

TAG = "GET /v2/app/manifests/1"


def promise(text: str) -> Script:
    def script(place: Place) -> None:
        place.hub.answers["HEAD /v2/app/manifests/1"] = reply(200, Docker_Content_Digest=text)

    return script


for _name, _text in {
    "with a path": "sha256:../../../../etc/passwd",
    "with an encoded path": "sha256:%2e%2e%2f" + "0" * 55,
    "of another algorithm": "md5:d41d8cd98f00b204e9800998ecf8427e",
    "of 63 digits": "sha256:" + "a" * 63,
    "of 65 digits": "sha256:" + "a" * 65,
    "in upper case": "sha256:" + "A" * 64,
    "with a blank": "sha256: " + "a" * 63,
    "of sha512": "sha512:" + "a" * 128,
}.items():
    CASES.append(Case(f"a digest {_name}", promise(_text), "bad digest"))

_OTHER = "sha256:" + "0" * 64


def served(raw: bytes | str, kind: str = DOCKER, head: bool = True) -> Script:
    """These bytes are the manifest."""
    data = raw if isinstance(raw, bytes) else raw.encode()

    def script(place: Place) -> None:
        place.hub.serve_manifest(data, place.image, kind=kind)

    return script


def changed(error: str, name: str, change: Callable[[dict[str, Any], Place], Any]) -> None:
    """The manifest of the image, changed; its digest fits."""

    def script(place: Place) -> None:
        document = place.image.manifest()
        made = change(document, place)
        raw = json.dumps(document if made is None else made).encode()
        place.hub.serve_manifest(raw, place.image)

    CASES.append(Case(f"a manifest: {name}", script, error))


def both(answer: Any) -> Script:
    def script(place: Place) -> None:
        place.hub.answers["HEAD /v2/app/manifests/1"] = reply(405)
        place.hub.answers[TAG] = answer

    return script


@case("verification failed")
def a_manifest_of_another_digest(place: Place) -> None:
    place.hub.answers[f"GET /v2/app/manifests/{place.manifest}"] = reply(200, b"{}", DOCKER)


@case("verification failed")
def a_manifest_with_a_false_digest(place: Place) -> None:
    place.hub.answers["HEAD /v2/app/manifests/1"] = reply(405)
    place.hub.answers[TAG] = reply(
        200, json.dumps(place.image.manifest()).encode(), DOCKER, Docker_Content_Digest=_OTHER
    )


for _name, (_answer, _error) in {
    "five megabytes": (reply(200, b" " * (5 << 20), DOCKER), "over 4194304 bytes"),
    "endless": (endlessly(b"HTTP/1.1 200 X\r\n\r\n", b" " * 65536), "over|longer"),
    "endless chunks": (endlessly(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 999),
        "over|longer|timeout"),
    "a chunk of no size": (then(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "not HTTP"),
    "a chunk of a negative size": (then(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc"), "HTTP|JSON|EOF|timeout"),
    "a chunk that is huge": (then(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 500 + b"\r\n"),
        "HTTP|EOF"),
    "endless trailers": (endlessly(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 99),
        "longer|HTTP|JSON|timeout"),
    "a negative length": (then(
        b"HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\nabc"), "JSON|HTTP|timeout|EOF"),
    "a length that is no number": (then(
        b"HTTP/1.1 200 X\r\nContent-Length: 0x10\r\n\r\nabc"), "JSON|HTTP|EOF"),
    "dripping": (dripping(b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n"), "timeout"),
    "cut short": (then(b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n{"), "EOF"),
    "no JSON": (reply(200, b"<html>", DOCKER), "not JSON"),
    "nothing": (reply(200, b"", DOCKER), "not JSON"),
    "UTF-16": (reply(200, '{"a": 1}'.encode("utf-16"), DOCKER), "not JSON"),
    "deep": (reply(200, b"[" * 5000 + b"]" * 5000, DOCKER), "nested|JSON"),
    "of 300,000 values": (reply(200, b"[" + b"1," * 300_000 + b"1]", DOCKER), "values"),
    "a list": (reply(200, b"[]", DOCKER), "malformed"),
    "a number": (reply(200, b"7", DOCKER), "malformed"),
    "of schema 1": (reply(200, b'{"schemaVersion": 1}',
        "application/vnd.docker.distribution.manifest.v1+prettyjws"), "schema 1"),
    "of schema 1 in disguise": (reply(200, b'{"schemaVersion": 1}', DOCKER), "schema 1"),
    "of schema 3": (reply(200, b'{"schemaVersion": 3}', DOCKER), "schemaVersion 3"),
    "a web page": (reply(200, b'{"schemaVersion": 2}', "text/html"), "no manifest of an image"),
    "of another type than sent": (reply(200, json.dumps(
        {"schemaVersion": 2, "mediaType": LIST, "manifests": []}).encode(), DOCKER), "was sent as"),
    "unauthorized": (errors(401, "UNAUTHORIZED", "come back later"), "come back later"),
    "denied": (errors(403, "DENIED", "not for you"),
               "pull access denied for .*app.*denied: not for you"),
    "unknown": (errors(404, "MANIFEST_UNKNOWN", "manifest unknown"), "not found: manifest unknown"),
    "of an unknown repository": (errors(404, "NAME_UNKNOWN", "no such"), "repository .* not found"),
    "a page that is not found": (reply(404, b"404 page not found\n", "text/plain"),
                                 "404.*page not found"),
    "too many requests": (errors(429, "TOOMANYREQUESTS", "slow down"), "slow down"),
    "an error of the server": (reply(503, b""), "503"),
    "an endless message": (errors(403, "DENIED", "x" * 60_000), "denied: x+"),
    "a message that draws": (errors(403, "DENIED", "\x1b[2J\x1b[31mroot\r\nfake: line"), "denied"),
    "an error of odd types": (reply(403, b'{"errors": [7, null, {"code": [], "message": {}}]}'),
                              "."),
}.items():  # fmt: skip
    CASES.append(Case(f"a manifest: {_name}", both(_answer), _error))

changed("index and a manifest at once", "two things at once",
        lambda d, p: d.update(manifests=[]))  # fmt: skip
changed("no manifest of an image", "no configuration", lambda d, p: d.pop("config") and None)
changed("not between", "a negative size", lambda d, p: d["layers"][0].update(size=-1))
changed("not between", "a size of exabytes", lambda d, p: d["layers"][0].update(size=1 << 60))
changed("not between", "a size beyond 64 bits", lambda d, p: d["layers"][0].update(size=1 << 80))
changed("malformed", "a size in words", lambda d, p: d["layers"][0].update(size="many"))
changed("too long", "a configuration of 1 GiB", lambda d, p: d["config"].update(size=1 << 30))
changed("malformed digest", "a layer's digest with a path",
        lambda d, p: d["layers"][0].update(digest="sha256:../../../etc/shadow"))  # fmt: skip
changed("malformed digest", "a configuration's digest with a path",
        lambda d, p: d["config"].update(digest="sha256:" + "../" * 21 + "a"))  # fmt: skip
changed("malformed digest", "a digest of sha512",
        lambda d, p: d["layers"][0].update(digest="sha512:" + "a" * 128))  # fmt: skip
changed("at most 125", "126 layers", lambda d, p: d.update(layers=d["layers"] * 126))
changed("names 1 layers", "a layer too many", lambda d, p: d.update(layers=d["layers"] * 2))
changed("names 1 layers", "no layers", lambda d, p: d.update(layers=None))
changed("something else", "a plugin", lambda d, p: d["config"].update(
    mediaType="application/vnd.docker.plugin.v1+json"))  # fmt: skip
changed("something else", "a chart", lambda d, p: d["config"].update(
    mediaType="application/vnd.cncf.helm.config.v1+json"))  # fmt: skip
changed("kept elsewhere", "a foreign layer", lambda d, p: d["layers"][0].update(
    mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    urls=["http://169.254.169.254/"]))  # fmt: skip
changed("media type", "a layer of an unknown kind", lambda d, p: d["layers"][0].update(
    mediaType="application/x-sh"))  # fmt: skip
changed("malformed", "layers that are an object", lambda d, p: d.update(layers={}))


def index(error: str, name: str, entries: Callable[[Place], list[dict[str, Any]]]) -> None:
    def script(place: Place) -> None:
        raw = json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": entries(place)})
        place.hub.serve_manifest(raw.encode(), place.image, kind=LIST)

    CASES.append(Case(f"an index: {name}", script, error))


AMD64 = {"os": "linux", "architecture": "amd64"}


def entry(place: Place, **more: Any) -> dict[str, Any]:
    raw = place.hub.serve(place.image, tag="inner")
    return {"mediaType": DOCKER, "digest": digest(raw), "size": len(raw), "platform": AMD64} | more


index("", "a good one", lambda p: [entry(p)])
index("no matching manifest", "empty", lambda p: [])
index("no matching manifest for linux/amd64", "of another platform",
      lambda p: [entry(p, platform={"os": "linux", "architecture": "riscv64"})] * 2)  # fmt: skip
index("the index says", "a false size", lambda p: [entry(p, size=17)])
index("malformed digest", "a path", lambda p: [entry(p, digest="sha256:../../x")])
index("not between", "a negative size", lambda p: [entry(p, size=-1)])
index("values", "of 15,000 platforms", lambda p: [entry(p)] * 15_000)
index("malformed", "platforms that are texts", lambda p: [entry(p, platform="linux/amd64")])
index("404", "of what is not there", lambda p: [entry(p, digest=_OTHER)])


@case("nested more than 3 deep")
def indexes_within_indexes(place: Place) -> None:
    raw, kind = place.hub.serve(place.image, tag="inner"), DOCKER
    for _ in range(6):
        inner = {"mediaType": kind, "digest": digest(raw), "size": len(raw), "platform": AMD64}
        raw, kind = json.dumps({"schemaVersion": 2, "manifests": [inner]}).encode(), LIST
        place.hub.serve_manifest(raw, place.image, kind=kind)


# -- blobs -----------------------------------------------------------------------

simple("a configuration", "config", {
    "other bytes": (lambda p: reply(200, b"x" * len(p.image.raw_config)), "config verification"),
    "shorter": (reply(200, b"{}"), "config verification"),
    "endless": (endlessly(b"HTTP/1.1 200 X\r\n\r\n", b" " * 9999), "more than|config"),
    "not there": (errors(404, "BLOB_UNKNOWN", "blob unknown"), "blob unknown"),
    "silence": (hang, "timeout|bytes in"),
})  # fmt: skip


def configured(error: str, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    def script(place: Place) -> None:
        made = change(place.image.config)
        if made is not None:
            place.image.config = made
        place.hub.serve(place.image)

    CASES.append(Case(f"a configuration: {name}", script, error))


configured("valid diff_ids", "a diff id with a path",
           lambda c: c["rootfs"].update(diff_ids=["sha256:../../x"]))  # fmt: skip
configured("diff id", "a false diff id", lambda c: c["rootfs"].update(diff_ids=[_OTHER]))
configured("names 0 layers", "no diff id", lambda c: c["rootfs"].update(diff_ids=[]))
configured("no RootFS key", "no rootfs", lambda c: c.pop("rootfs") and None)
configured("not for linux", "of Windows", lambda c: c.update(os="windows"))
configured("malformed", "an environment that is a text", lambda c: c["config"].update(Env="x"))
configured("not an image configuration", "an index", lambda c: c.update(manifests=[]))

_HEAD = b"HTTP/1.1 200 X\r\n\r\n"
simple("a layer", "layer", {
    "other bytes": (lambda p: reply(200, b"x" * len(p.image.blob)), "layer verification failed"),
    "one byte changed": (lambda p: reply(200, p.image.blob[:-1] + b"!"), "layer verification"),
    "fewer bytes": (reply(200, b"x"), "the manifest says"),
    "more bytes": (lambda p: reply(200, p.image.blob + b"x"), "the manifest says"),
    "more bytes, unannounced": (lambda p: then(_HEAD + p.image.blob + b"x"), "more than"),
    "endless": (endlessly(_HEAD, b"x" * 65536), "more than|longer"),
    "endless chunks": (endlessly(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                                 b"1\r\nx\r\n" * 9999), "longer|more than"),
    "dripping": (dripping(_HEAD), "bytes in"),
    "stalled": (then(_HEAD + b"x" * 1000, hang), "bytes in"),
    "silence": (hang, "timeout"),
    "cut each time": (lambda p: then(_HEAD + p.image.blob[:1000]), "unexpected EOF"),
    "cut once": (lambda p: [then(_HEAD + p.image.blob[:1000]), reply(
        206, p.image.blob[1000:],
        Content_Range=f"bytes 1000-{len(p.image.blob) - 1}/{len(p.image.blob)}")], ""),
    "cut once, then from the start": (lambda p: [
        then(_HEAD + p.image.blob[:1000]), reply(200, p.image.blob)], ""),
    "cut, then another range": (lambda p: [then(_HEAD + p.image.blob[:1000]), reply(
        206, p.image.blob, Content_Range=f"bytes 0-{len(p.image.blob)}/*")], "asked for the bytes"),
    "cut, then other bytes": (lambda p: [then(_HEAD + p.image.blob[:1000]), reply(
        206, b"x" * (len(p.image.blob) - 1000), Content_Range="bytes 1000-1/*")], "verification"),
    "cut, then nothing is left": (lambda p: [
        then(_HEAD + p.image.blob[:1000]), reply(416, b"")], "416"),
    "an error, then it works": (lambda p: [reply(500, b""), reply(200, p.image.blob)], ""),
    "errors": (reply(502, b"bad gateway"), "502.*bad gateway"),
    "not there": (errors(404, "BLOB_UNKNOWN", "gone"), "gone"),
    "denied": (errors(403, "DENIED", "pay first"), "pay first"),
    "no content": (reply(204), "204"),
    "partial, unasked": (lambda p: reply(206, p.image.blob), "206"),
    "redirected": (lambda p: reply(307, Location=f"http://{p.other.name}/blob?sig=1"), ""),
    "redirected to link-local": (reply(307, Location="http://169.254.169.254/x"), "link-local"),
    "redirected to nothing": (reply(307, Location="http://127.0.0.1:1/x"), "refused"),
    "redirected round and round": (
        lambda p: reply(307, Location=p.layer.partition(" ")[2]), "more than 5 redirects"),
})  # fmt: skip
simple("a layer, public", "layer", {
    "redirected to loopback": (reply(307, Location="http://127.0.0.1:1/x"), "on loopback"),
    "redirected inside": (reply(307, Location="http://192.168.1.1/x"), "private"),
}, public=True)  # fmt: skip


def packed(error: str, name: str, image: Callable[[], Image]) -> None:
    def script(place: Place) -> None:
        place.image = image()
        place.hub.serve(place.image)

    CASES.append(Case(f"a layer: {name}", script, error))


def _bomb() -> Image:
    tar = layer_tar(("zeros", bytes(80 << 20)))
    return Image(tar=tar, blob=gzip.compress(tar, 9, mtime=0))


packed("bomb", "a bomb", _bomb)
packed("cut short", "gzip that is cut", lambda: Image(blob=gzip.compress(layer_tar())[:-100]))
packed("climbs out", "a member that climbs out",
       lambda: Image(tar=layer_tar(("../../../../tmp/nk-escape", b"x"))))  # fmt: skip
packed("damaged|diff id|archive|header", "no archive", lambda: Image(blob=b"hello" * 999))
packed("lz4", "compressed by lz4",
       lambda: Image(blob=b"\x04\x22\x4d\x18" + b"x" * 999))  # fmt: skip


# -- all tags --------------------------------------------------------------------

simple("tags", "GET /v2/app/tags/list", {
    "with a path": (reply(200, b'{"tags": ["../x"]}'), "malformed tag"),
    "with a blank": (reply(200, b'{"tags": ["a b"]}'), "malformed tag"),
    "that are numbers": (reply(200, b'{"tags": [1]}'), "malformed"),
    "no JSON": (reply(200, b"x"), "not JSON"),
    "of 200,000": (reply(200, b'{"tags": [' + b'"a",' * 200_000 + b'"a"]}'), "values"),
    "that go on at another host": (
        reply(200, b'{"tags": []}', Link='<http://127.0.0.3:1/x>; rel="next"'), "refused"),
    "that go on and on": (
        reply(200, b'{"tags": []}', Link='</v2/app/tags/list>; rel="next"'), "refused|pages"),
    "of nobody": (errors(404, "NAME_UNKNOWN", "no such"), "repository .* not found"),
}, act="pull all")  # fmt: skip


# -- push ------------------------------------------------------------------------

UPLOADS = "POST /v2/app/blobs/uploads/"
simple("push", UPLOADS, {
    "no place to upload to": (reply(202), "no Location"),
    "a place of another kind": (reply(202, Location="file:///x"), "refused"),
    "a place that is link-local": (reply(202, Location="http://169.254.1.1/x"), "link-local"),
    "a place that is nowhere": (reply(202, Location="http://127.0.0.1:1/x"), "refused"),
    "denied": (errors(403, "DENIED", "read only"), "read only"),
    "unauthorized": (errors(401, "UNAUTHORIZED", "who are you"), "who are you"),
    "an endless answer": (endlessly(b"HTTP/1.1 202 X\r\n\r\n", b"x" * 9999), "over|longer"),
    "silence": (hang, "timeout"),
    "errors": (reply(500, b"broken"), "500"),
    "taken at once": (reply(201), "201"),
}, act="push")  # fmt: skip
simple("push, public", UPLOADS, {
    "a place on loopback": (reply(202, Location="http://127.0.0.1:1/x"), "on loopback"),
}, act="push", public=True)  # fmt: skip


def uploading(place: Place, where: str = "/up") -> None:
    hub = place.hub
    hub.answers[UPLOADS] = reply(202, Location=where)
    hub.answers["PATCH /up"] = reply(202, Location="/up")
    hub.answers["GET /up"] = reply(204, Range="0-0")
    hub.answers["PUT /up"] = reply(201)
    hub.answers["PUT /v2/app/manifests/1"] = reply(201)
    there = reply(200, Content_Length="9999999999")
    hub.answers["HEAD /v2/app/blobs/"] = [there, reply(404), there]


@case("", act="push")
def a_good_push(place: Place) -> None:
    uploading(place)


@case("", act="push")
def an_upload_that_goes_on_at_another_host(place: Place) -> None:
    uploading(place, f"http://{place.other.name}/up")
    place.other.answers["PATCH /up"] = reply(202, Location="/up")
    place.other.answers["PUT /up"] = reply(201)


@case("500", act="push")
def an_upload_that_fails_each_time(place: Place) -> None:
    uploading(place)
    place.hub.answers["PATCH /up"] = reply(500, b"")


@case("", act="push")
def an_upload_that_is_cut_once(place: Place) -> None:
    uploading(place)
    place.hub.answers["PATCH /up"] = [close, reply(202, Location="/up")]
    place.hub.answers["GET /up"] = reply(204, Range="0-99")


@case("does not have it", act="push")
def a_blob_that_is_taken_and_lost(place: Place) -> None:
    uploading(place)
    place.hub.answers["HEAD /v2/app/blobs/"] = reply(404)


@case("provided digest did not match", act="push")
def a_blob_that_is_refused(place: Place) -> None:
    uploading(place)
    place.hub.answers["PUT /up"] = errors(400, "DIGEST_INVALID", "provided digest did not match")


@case("stored the manifest as", act="push")
def a_manifest_that_is_changed(place: Place) -> None:
    uploading(place)
    place.hub.answers["PUT /v2/app/manifests/1"] = reply(201, Docker_Content_Digest=_OTHER)


@case("manifest invalid", act="push")
def a_manifest_that_is_refused(place: Place) -> None:
    uploading(place)
    refusal = errors(400, "MANIFEST_INVALID", "manifest invalid")
    place.hub.answers["PUT /v2/app/manifests/1"] = refusal


# -- search and the rest ---------------------------------------------------------

simple("search", "GET /v1/search", {
    "no JSON": (reply(200, b"x"), "answer"),
    "another type": (reply(200, b'{"results": {"a": 1}}'), "malformed"),
    "endless": (endlessly(_HEAD, b" " * 9999), "over|longer"),
    "not there": (reply(404, b"404 page not found"), "Unexpected status code 404"),
    "names that draw": (reply(200, b'{"results": [{"name": "\\u001b[2Jx"}]}'), ""),
}, act="search")  # fmt: skip

__all__ = ["CASES", "CONFIG", "Case", "Place"]

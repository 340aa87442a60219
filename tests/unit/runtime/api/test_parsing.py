"""Versions, bodies, queries, names and addresses, as clients write them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import InvalidSpec, NotFound
from runtime.api import query, version
from runtime.api.json import image_names
from runtime.api.server import gojson
from runtime.api.server.listen_address import (
    FdAddress,
    TcpAddress,
    TlsOptions,
    UnixAddress,
    check_exposure,
    parse,
)
from runtime.api.server.routing import Route, Table
from runtime.container.config import CreateRequest
from runtime.container.options import ExecConfig

DEFAULT = Path("/run/x.sock")
FULL_TLS = TlsOptions(verify=True, ca=Path("ca"), cert=Path("cert"), key=Path("key"))


@pytest.mark.parametrize("field", ["Volumes", "volumes", "ExposedPorts"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [("5", "number"), ("1.5", "number"), ('"x"', "string"), ("true", "bool"), ("[]", "array")],
)
def test_a_set_is_of_empty_objects(field: str, value: str, kind: str) -> None:
    said = f"{'ExposedPorts' if field == 'ExposedPorts' else 'Volumes'}: '80': expected an object"
    with pytest.raises(InvalidSpec, match=f"invalid JSON: {said}, got {kind}"):
        gojson.decode(f'{{"{field}":{{"80":{value}}}}}'.encode(), CreateRequest)
    good = gojson.decode(f'{{"{field}":{{"80":null,"81":{{"x":1}}}}}}'.encode(), CreateRequest)
    assert {"80": {}, "81": {}} in (good.volumes, good.exposed_ports)


def test_a_path_without_a_version_is_served_as_the_newest() -> None:
    assert version.split("/containers/json") == (version.NEWEST, "/containers/json")
    assert version.split("/v1.41/images/v2/json") == ((1, 41), "/images/v2/json")
    assert version.split("/version") == (version.NEWEST, "/version")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("2", "client version 2 is too new. Maximum supported API version is 1.51"),
        ("1.21", "client version 1.21 is too old. Minimum supported API version is 1.22, please "
                 "upgrade your client to a newer version"),
    ],
)  # fmt: skip
def test_other_versions_are_refused_in_docker_s_words(asked: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        version.split(f"/v{asked}/info")
    assert str(error.value) == message


def test_null_is_the_zero_value_and_keys_match_in_any_case() -> None:
    body = (b'{"image":"x","Cmd":null,"Env":null,"Tty":null,"HostConfig":{"Memory":null,'
            b'"PortBindings":{"80/tcp":null,"81/tcp":[{"HostPort":"1","HostIp":null}]}},'
            b'"ExposedPorts":{"80/tcp":null},"Whatever":{"a":1},'
            b'"NetworkingConfig":{"EndpointsConfig":{"n":null}}}')  # fmt: skip
    request = gojson.decode(body, CreateRequest)
    assert (request.image, request.cmd, request.tty) == ("x", None, False)
    assert request.exposed_ports == {"80/tcp": {}}
    assert request.host_config is not None
    assert request.host_config.memory == 0
    assert request.host_config.port_bindings is not None
    assert request.host_config.port_bindings["80/tcp"] is None
    assert request.networking_config is not None
    assert request.networking_config.endpoints_config == {"n": None}


def test_an_exact_key_wins_over_another_spelling() -> None:
    assert gojson.decode(b'{"Image":"right","IMAGE":"wrong"}', CreateRequest).image == "right"
    assert gojson.decode(b'{"IMAGE":"wrong","Image":"right"}', CreateRequest).image == "right"


def test_commands_may_be_a_string() -> None:
    request = gojson.decode(b'{"Cmd":"ls","Entrypoint":"sh"}', CreateRequest)
    assert (request.cmd, request.entrypoint) == (["ls"], ["sh"])
    assert gojson.decode(b'{"Cmd":["a","b"]}', ExecConfig).cmd == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b"{", "invalid JSON: "),
        (b"[]", "invalid JSON: expected an object, got list"),
        (b'{"a":1} {"b":2}', "unexpected content after JSON"),
        (b'{"Image":5}', "invalid JSON: Expected `str`, got `int` - at `$.Image`"),
        (b'{"Image":"\xff"}', "invalid JSON"),
        (b'{"HostConfig":{"Memory":9223372036854775808}}', "has over 64 bits"),
        (b'{"HostConfig":{"Ulimits":[{"Soft":-' + b"9" * 30 + b"}]}}", "has over 64 bits"),
    ],
)
def test_bodies_that_are_wrong_say_how(body: bytes, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        gojson.decode(body, CreateRequest)
    assert message in str(error.value)


@pytest.mark.slow
@given(st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["Cmd", "HostConfig", "Image", "ExposedPorts", "Env",
                                       "Healthcheck", "Labels", "NetworkingConfig", "x"]),
                      inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_a_request_or_an_invalid_spec(value: object) -> None:
    with suppress(InvalidSpec):
        gojson.convert(value, CreateRequest)


@pytest.mark.parametrize("text", ["", "0", "no", "false", "None", " FALSE "])
def test_docker_s_falsehoods(text: str) -> None:
    assert query.boolean(text) is False


@pytest.mark.parametrize("text", ["1", "true", "True", "yes", "on", "2", "x"])
def test_everything_else_is_true(text: str) -> None:
    assert query.boolean(text) is True


@pytest.mark.parametrize("text", ['{"label":{"a=b":true}}', '{"label":["a=b"]}'])
def test_both_forms_of_filters(text: str) -> None:
    assert query.filters(text, {"label"}) == {"label": ["a=b"]}


@pytest.mark.parametrize("text", ["", "null", "{}", '{"label":{}}'])
def test_no_filters(text: str) -> None:
    assert query.filters(text, {"label"}) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"x":{"y":true}}', "Invalid filter 'x'"),
        ('{"label":"a"}', "Invalid filter 'label'"),
        ('{"label":[1]}', "Invalid filter 'label'"),
        ("[]", "must be an object"),
        ("{", "not JSON"),
    ],
)
def test_bad_filters_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        query.filters(text, {"label"})


@pytest.mark.parametrize("text", ["", "+", "-+1", "1_0", " 1", "٣", "²", "9" * 19, "9" * 5000])
def test_what_is_no_whole_number_of_64_bits_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="invalid t "):
        query.integer("t", text)


def test_whole_numbers() -> None:
    texts = ("-5", "+7", "007", "9223372036854775807")
    assert [query.integer("t", text) for text in texts] == [-5, 7, 7, 9223372036854775807]


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "h", "9" * 5000 + ".5"])
def test_times_are_finite(text: str) -> None:
    with pytest.raises(InvalidSpec, match="invalid time"):
        query.moment(text, 0)
    with pytest.raises(InvalidSpec, match="invalid since"):
        query.timestamp("since", text)


def test_moments_are_durations_dates_or_numbers() -> None:
    assert query.moment("1h30m", 10_000) == 10_000 - 5400
    assert query.moment("1.5s", 10) == 8.5
    assert query.moment("1700000000.25", 0) == 1700000000.25
    assert query.moment("1970-01-02", 0) == 86400
    assert query.moment("1970-01-01T01:00:00+01:00", 5) == 0
    with pytest.raises(InvalidSpec, match="invalid time 'soon'"):
        query.moment("soon", 0)


def test_until_of_a_prune_comes_out_in_seconds() -> None:
    assert query.prune_filters('{"until":["10s"]}', (), 100) == {"until": ["90.000000000"]}
    with pytest.raises(InvalidSpec, match="Invalid filter 'dangling'"):
        query.prune_filters('{"dangling":["1"]}', (), 100)


@pytest.mark.parametrize(
    ("repo", "tag", "expected"),
    [
        ("docker.io/library/busybox", "", ("busybox", "latest")),
        ("docker.io/me/x", "2", ("me/x", "2")),
        ("made:2", "", ("made", "2")),
        ("127.0.0.1:5000/x", "", ("127.0.0.1:5000/x", "latest")),
        ("127.0.0.1:5000/x:3", "", ("127.0.0.1:5000/x", "3")),
        ("ghcr.io/library/x", "1", ("ghcr.io/library/x", "1")),
    ],
)
def test_repo_and_tag(repo: str, tag: str, expected: tuple[str, str]) -> None:
    assert image_names.repo_and_tag(repo, tag) == expected


@pytest.mark.parametrize(("repo", "tag"), [("", ""), ("x/", ""), ("x@sha256:0", ""), ("x", "a:b")])
def test_what_is_no_name_is_refused(repo: str, tag: str) -> None:
    with pytest.raises(InvalidSpec):
        image_names.repo_and_tag(repo, tag)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", UnixAddress(path=DEFAULT)),
        ("unix://", UnixAddress(path=DEFAULT)),
        ("unix:///a/b", UnixAddress(path=Path("/a/b"))),
        ("tcp://", TcpAddress(host="127.0.0.1", port=2375)),
        ("tcp://:99", TcpAddress(host="127.0.0.1", port=99)),
        ("tcp://0.0.0.0:1", TcpAddress(host="0.0.0.0", port=1)),
        ("10.0.0.1", TcpAddress(host="10.0.0.1", port=2375)),
        ("localhost:5", TcpAddress(host="localhost", port=5)),
        ("tcp://[::1]:7", TcpAddress(host="::1", port=7)),
        ("tcp://[::1]", TcpAddress(host="::1", port=2375)),
        ("fd://", FdAddress()),
        ("fd://*", FdAddress()),
        ("fd://4", FdAddress(which=4)),
        ("fd://api", FdAddress(which="api")),
    ],
)
def test_hosts(text: str, expected: object) -> None:
    assert parse(text, default=DEFAULT) == expected


@pytest.mark.parametrize(
    "text",
    ["unix://relative", f"unix:///{'x' * 120}", "tcp://a:b", "tcp://a:70000", "tcp://::1:5",
     "tcp://[::1", "tcp://a:1/path", "fd://2", "npipe://x", "http://x"],
)  # fmt: skip
def test_bad_hosts_are_named(text: str) -> None:
    with pytest.raises(InvalidSpec, match="invalid host"):
        parse(text, default=DEFAULT)


def test_tls_moves_the_default_port() -> None:
    assert parse("tcp://", default=DEFAULT, tls=True) == TcpAddress(host="127.0.0.1", port=2376)


def test_plain_tcp_is_for_loopback_or_the_insistent() -> None:
    off, on = TlsOptions(), TcpAddress(host="0.0.0.0", port=1)
    check_exposure([TcpAddress(host="127.0.0.1", port=1), TcpAddress(host="::1", port=1),
                    TcpAddress(host="localhost", port=1)], off, insecure=False)  # fmt: skip
    check_exposure([on], off, insecure=True)
    check_exposure([on], FULL_TLS, insecure=False)
    with pytest.raises(InvalidSpec, match="without client certificates"):
        check_exposure([on], off, insecure=False)
    with pytest.raises(InvalidSpec, match="without client certificates"):
        check_exposure([TcpAddress(host="myhost", port=1)], off, insecure=False)
    without = TlsOptions(enabled=True, cert=Path("c"), key=Path("k"))
    with pytest.raises(InvalidSpec, match="without client certificates"):
        check_exposure([on], without, insecure=False)
    with pytest.raises(InvalidSpec, match="--tlscacert"):
        TlsOptions(verify=True, cert=Path("c"), key=Path("k")).check()
    with pytest.raises(InvalidSpec, match="--tlscert and --tlskey"):
        TlsOptions(enabled=True).check()


def test_routes_take_names_with_slashes_and_say_page_not_found() -> None:
    async def one(call: object) -> None: ...

    async def two(call: object) -> None: ...

    table = Table([Route("GET", "/images/json", one), Route("GET", "/images/{ref}/json", two)])  # type: ignore[arg-type]
    assert table.resolve("GET", "/images/json") == (one, {})
    assert table.resolve("GET", "/images/a/b:c/json") == (two, {"ref": "a/b:c"})
    for method, path in (("POST", "/images/json"), ("GET", "/nothing"), ("GET", "/")):
        with pytest.raises(NotFound, match=r"^page not found$"):
            table.resolve(method, path)

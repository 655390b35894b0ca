"""Who is let in: a table of host, origin, token and route."""

import itertools
import socket

import httpx
import pytest

from distill.web.guard import UPLOAD_LIMIT, own_hosts
from support.web_server import TOKEN, Web, web_server

ROUTES = [
    ("GET", "/"),
    ("GET", "/static/main.js"),
    ("GET", "/api/about"),
    ("GET", "/api/models"),
    ("GET", "/api/runs/none/events"),
    ("POST", "/api/collections"),
    ("POST", "/api/models/import?name=x.distill"),
    ("PUT", "/api/collections/none/files?name=x.wav"),
    ("PATCH", "/api/models/none"),
    ("DELETE", "/api/models/none"),
    ("DELETE", "/api/collections/none"),
    ("POST", "/api/collections/undo"),
]
HOSTS = {"own": "{own}", "by name": "localhost:{port}", "rebound": "evil.example:{port}", "other port": "127.0.0.1:1"}
ORIGINS = {
    "none": None,
    "own": "http://{host}",
    "foreign": "http://evil.example",
    "null": "null",
    "tls": "https://{host}",
}
KEYS = {
    "bearer": ("Authorization", "Bearer {token}"),
    "cookie": ("Cookie", "{cookie}={token}"),
    "none": ("X-No", "key"),
    "wrong": ("Cookie", "{cookie}=wrong"),
    "wrong bearer": ("Authorization", "Bearer x"),
}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("web")) as web:
        yield web


def expected(method: str, host: str, origin: str, key: str) -> int | None:
    """The status of a refusal; None for who is let in, whatever the route then says."""
    if host in ("rebound", "other port"):
        return 421
    if origin in ("foreign", "null", "tls"):
        return 403
    if key in ("none", "wrong", "wrong bearer"):
        return 401
    return 403 if key == "cookie" and method != "GET" and origin == "none" else None


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_the_page_itself_is_let_in(web: Web, method: str, path: str) -> None:
    port = int(web.address.rpartition(":")[2])
    with httpx.Client(base_url=web.address) as client:
        for host, origin, key in itertools.product(HOSTS, ORIGINS, KEYS):
            name = HOSTS[host].format(own=f"127.0.0.1:{port}", port=port)
            header, value = KEYS[key]
            headers = {"Host": name, header: value.format(cookie=f"distill-{port}", token=TOKEN)}
            if ORIGINS[origin]:
                headers["Origin"] = ORIGINS[origin].format(host=name)
            answer = client.request(method, path, headers=headers)
            refused = answer.status_code if answer.status_code in (401, 403, 421) else None
            assert refused == expected(method, host, origin, key), (host, origin, key, answer.text)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            if refused:
                assert set(answer.json()) == {"error"}
                assert "set-cookie" not in answer.headers


def test_the_address_that_is_printed_gives_the_cookie_and_no_other_path_does(web: Web) -> None:
    first = httpx.get(f"{web.address}/", params={"token": TOKEN})
    assert first.status_code == 200
    assert all(flag in first.headers["set-cookie"] for flag in ("HttpOnly", "SameSite=Strict", "Path=/"))
    with httpx.Client(base_url=web.address, cookies=dict(first.cookies)) as client:
        assert client.get("/api/about").status_code == 200
    assert httpx.get(f"{web.address}/", params={"token": "wrong"}).status_code == 401
    assert httpx.get(f"{web.address}/api/about", params={"token": TOKEN}).status_code == 401


@pytest.mark.parametrize("foreign", ["k={}", "a[b]=c", "x", "=", "a=b=c", "é=ü", 'q="', "\\"])
def test_a_cookie_of_another_program_locks_nobody_out(web: Web, foreign: str) -> None:
    ours = f"distill-{web.address.rpartition(':')[2]}={TOKEN}"
    for cookies in (f"{foreign}; {ours}", f"{ours}; {foreign}", f"{foreign};{ours};{foreign}"):
        answer = httpx.get(f"{web.address}/api/about", headers={"Cookie": cookies.encode()})
        assert answer.status_code == 200, cookies
    old = ours.replace(TOKEN, "of-yesterday")  # set for another path
    assert httpx.get(f"{web.address}/api/about", headers={"Cookie": f"{old}; {ours}"}).status_code == 200


def test_nothing_outside_the_page_s_folders_is_served(web: Web) -> None:
    ways_out = ("/static/../app.py", "/static/%2e%2e/app.py", "/api/runs/..%2f..%2fetc/previews/passwd", "/etc/passwd")
    for path in ways_out:
        assert web.client.get(path).status_code == 404


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(web: Web, announced: bool) -> None:
    body = b'"' + b"x" * (2 << 20)
    large = web.client.post(
        "/api/collections",
        content=body if announced else iter([body]),
        headers={"Content-Type": "application/json" if announced else "text/plain"},
    )
    assert (large.status_code, "at most 1 MB" in large.json()["error"]) == (413, True)


@pytest.mark.parametrize(
    ("key", "length", "status"), [(TOKEN, UPLOAD_LIMIT + 1, 413), ("wrong", 10**9, 401), (TOKEN, 10**9, 404)]
)
def test_a_body_that_is_refused_is_not_read_to_its_end(web: Web, key: str, length: int, status: int) -> None:
    port = web.client.base_url.port
    head = (
        f"PUT /api/collections/none/files?name=x.wav HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(head.encode() + bytes(1000))
        answer = b""
        while part := raw.recv(1000):  # up to the end of the connection
            answer += part
    assert f" {status} ".encode() in answer
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("bound", "host", "known"),
    [
        ("127.0.0.1", "127.0.0.1:80", True),
        ("127.0.0.1", "LOCALHOST:80", True),
        ("127.0.0.1", "[::1]:80", True),
        ("127.0.0.1", "localhost", True),  # port 80 goes without saying
        ("127.0.0.1", "192.168.1.7:80", False),
        ("127.0.0.1", "", False),
        ("0.0.0.0", "192.168.1.7:80", True),
        ("0.0.0.0", "[fe80::1]:80", True),
        ("0.0.0.0", "evil.example:80", False),
        ("0.0.0.0", f"{socket.gethostname()}:80", True),
    ],
)
def test_names_that_others_can_point_here_are_not_known(bound: str, host: str, known: bool) -> None:
    assert own_hosts(bound, 80)(host) is known

"""Middleware that admits only requests of the page that was opened, on this machine, with the server's token.

A page of another site can send requests to a loopback port, and another name can be made to resolve to it (DNS
rebinding). So the Host must be one of ours, the Origin that of our own page, and the token, new at every start, known.
"""

import ipaddress
import json
import secrets
import socket
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_LIMIT = 4 << 30  # bytes of one file
_JSON_LIMIT = 1 << 20  # bytes of any other request
_UPLOADS = ("/files", "/sounds", "/import")  # endings of the paths to which files are sent
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

# The page needs nothing of any other host, so nothing else can be loaded into it either.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def own_hosts(bound: str, port: int) -> Callable[[str], bool]:
    """Make a test for Host headers: True for those that name this server, which listens on the address `bound`.

    Over a network, any IP address is accepted, but no name except the machine's own: only a name can be made to point
    here by somebody else.
    """
    names = {"localhost", "127.0.0.1", "[::1]"}
    local = is_loopback(bound)
    if not local:
        names |= {bound, socket.gethostname(), f"{socket.gethostname()}.local"}

    def known(host: str) -> bool:
        name = host.removesuffix(f":{port}").lower()
        if name == host.lower() and port != 80:  # browsers leave out the port only where it is the default
            return False
        return name in names or (not local and _is_address(name))

    return known


def is_loopback(host: str) -> bool:
    """True for an address that other machines cannot reach."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class _Refused(HTTPException):
    """A refused request; an `HTTPException`, because the app meets it too when a body turns out to be too large."""


class Guard:
    """Middleware that passes a request on to `app` if host, origin and token are right, and its body not too large."""

    def __init__(self, app: ASGIApp, token: str, known_host: Callable[[str], bool], cookie: str) -> None:
        self.app, self._token, self._known_host, self._cookie = app, token, known_host, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":  # anything else, as a WebSocket, is not served
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False
        token_in_url = False
        body = _Body(receive, scope)

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message["headers"])
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if body.unread:  # else the server would read it to its end, to find the next request after it
                    headers["Connection"] = "close"
                if token_in_url:  # from now on the page has the token in a cookie, and not in its addresses
                    flags = "HttpOnly; SameSite=Strict; Path=/"
                    headers.append("Set-Cookie", f"{self._cookie}={self._token}; {flags}")
            await send(message)

        try:
            token_in_url = self._check(scope)
            body.check_announced_size()
            await self.app(scope, body.receive, guarded_send)
        except _Refused as refusal:
            if started:  # too late for another response
                raise
            await _refuse(guarded_send, refusal)

    def _check(self, scope: Scope) -> bool:
        """True if the token is in the address, as in a page's first request; raises `_Refused`."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known_host(host):
            raise _Refused(421, "this server answers only to the address it was started with")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise _Refused(403, "this request comes from another site")
        # A program that has the token need not say where it comes from, unlike a browser, which sends cookies unasked.
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(given):
            return False
        if scope["path"] == "/" and self._is_token(
            parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        ):
            return True
        if not any(map(self._is_token, self._from_cookies(headers.getlist("cookie")))):
            raise _Refused(401, "open the address that distill printed when it started: it holds the key to this page")
        if scope["method"] not in _SAFE_METHODS and origin is None:
            raise _Refused(403, "this request does not say where it comes from")
        return False

    def _is_token(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())  # its time tells nothing about the token

    def _from_cookies(self, headers: list[str]) -> Iterator[str]:
        """The values of our cookie, whatever stands beside it: other programs of this host may have set anything."""
        for cookie in ";".join(headers).split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == self._cookie:
                yield value


class _Body:
    """The body of a request, as far as it is read, and no further than to the limit of its size."""

    def __init__(self, receive: Receive, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._receive, self._seen = receive, 0
        self._announced = headers.get("content-length", "0")
        self._limit = UPLOAD_LIMIT if scope["path"].endswith(_UPLOADS) else _JSON_LIMIT
        self.unread = self._announced != "0" or "transfer-encoding" in headers  # True if more of it may come

    def check_announced_size(self) -> None:
        """Raise `_Refused` if the body is said to be too large."""
        if self._announced.isdecimal() and int(self._announced) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """Receive the next part; raises `_Refused` when it becomes too large."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise self._too_large()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.unread = False
        return message

    def _too_large(self) -> _Refused:
        return _Refused(413, f"that is too large: at most {self._limit / 2**20:,.0f} MB can be sent at a time")


async def _refuse(send: Send, refusal: _Refused) -> None:
    body = json.dumps({"error": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""A stand-in for the Hugging Face Hub: as much of its API as its client needs to share one model, from memory."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

TOKEN = "hf_of_the_owner"
COMMIT = "0" * 40


@dataclass
class Hub:
    """Its repositories by name, each with its files; the largest size that it tells is `claims`, if that is set."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # uploaded beside a commit, by their hash
    claims: int | None = None
    broken: bool = False  # answers every request with an error of its own


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    @property
    def own(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def answer(self, status: int, content: object = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path.strip("/").split("/"), self.body()
        if self.state.broken:
            return self.answer(500)
        if not self.own:
            return self.answer(401, {"error": "Invalid username or password."})
        if path == ["api", "validate-yaml"]:
            return self.answer(200, {"errors": [], "warnings": []})
        if path == ["api", "repos", "create"]:
            about = json.loads(body)
            name = f"{about.get('organization') or 'ann'}/{about['name']}"
            url = {"url": f"{self.state.address}/{name}", "name": name}
            if name in self.state.repositories:
                return self.answer(409, url)
            self.state.repositories[name], self.state.private[name] = (
                {},
                about.get("private", about.get("visibility") == "private"),
            )
            return self.answer(200, url)
        if path[-1] == "batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.state.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        name = "/".join(path[2:4])
        if path[4] == "preupload":
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        assert path[4] == "commit"
        for line in body.splitlines():
            kind, value = (json.loads(line)[key] for key in ("key", "value"))
            if kind == "file":
                self.state.repositories[name][value["path"]] = base64.b64decode(value["content"])
            if kind == "lfsFile":
                self.state.repositories[name][value["path"]] = self.state.large[value["oid"]]
        url = f"{self.state.address}/{name}/commit/{COMMIT}"
        return self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def do_PUT(self) -> None:
        content = self.body()
        self.state.large[hashlib.sha256(content).hexdigest()] = content
        self.answer(200, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        assert not parse_qs(urlsplit(self.path).query)
        if self.state.broken:
            return self.answer(500)
        name, file = "/".join(parts[:2]), parts[-1]
        if name not in self.state.repositories or (self.state.private[name] and not self.own):
            return self.answer(404, X_Error_Code="RepoNotFound")
        content = self.state.repositories[name].get(file)
        if content is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(content).hexdigest()
        size = len(content) if self.state.claims is None else self.state.claims
        return self.answer(200, content, X_Repo_Commit=COMMIT, ETag=f'"{etag}"', X_Linked_Size=str(size))

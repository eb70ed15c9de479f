"""A real TLS server with as much of the Kubernetes API as a client's logic needs: objects, versions, conflicts."""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bootstrap import kubeconfig, paths
from bootstrap.site import Node
from bootstrap.spec import Cluster, Host

Answer = tuple[int, Any]
HANG_UP = "hang up"


@functools.cache
def files() -> Mapping[str, bytes]:
    """PKI and kubeconfigs of a control plane at 127.0.0.1."""
    host = Host.model_validate({"name": "cp1", "address": "127.0.0.1", "roles": ["control-plane"]})
    return kubeconfig.site_files(Cluster(), [Node(host, "127.0.0.1")], datetime.datetime.now(datetime.UTC))["cp1"]


def pki(name: str) -> bytes:
    return files()[f"{paths.PKI}/{name}"]


@dataclass(frozen=True)
class Request:
    """`connection` tells the server's connections apart, counted from 1."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Any
    connection: int


@dataclass
class ApiServer:
    """`before` may answer in the server's place, or hang up."""

    port: int = 0
    connections: int = 0
    version: int = 0
    requests: list[Request] = field(default_factory=list)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: Callable[[Request], Answer | str | None] = lambda _request: None

    def put(self, path: str, value: Mapping[str, Any]) -> dict[str, Any]:
        self.version += 1
        metadata = {"uid": str(self.version), **value.get("metadata", {}), "resourceVersion": str(self.version)}
        self.objects[path] = {**value, "metadata": metadata}
        return self.objects[path]

    def answer(self, request: Request) -> Answer | str:
        self.requests.append(request)
        if (early := self.before(request)) is not None:
            return early
        path, found = request.path, self.objects.get(request.path)
        match request.method:
            case "POST":
                path = f"{path}/{request.body['metadata']['name']}"
                if path in self.objects:
                    return status(409, "AlreadyExists", "it is there")
                return 201, self.put(path, request.body)
            case "DELETE" if found is not None:
                return 200, self.objects.pop(path)
            case "GET" if found is not None:
                return 200, found
            case "PATCH" if found is None and "apply-patch" in request.headers["Content-Type"]:
                return 201, self.put(path, request.body)
            case "PATCH" if found is not None:
                version = request.body.get("metadata", {}).get("resourceVersion")
                if version not in (None, found["metadata"]["resourceVersion"]):
                    return status(409, "Conflict", "the object has been modified")
                merged = merge(found, request.body)
                return 200, found if merged == found else self.put(path, merged)
        return status(404, "NotFound", f"{path} not found")


def status(code: int, reason: str, message: str, kind: str = "") -> Answer:
    return code, {"kind": "Status", "reason": reason, "message": message, "details": {"kind": kind}}


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(old)
    for key, value in new.items():
        both[key] = merge(both.get(key) or {}, value) if isinstance(value, dict) else value
    return {key: value for key, value in both.items() if value is not None}


@contextmanager
def serving(folder: Path, *, certificate: bytes | None = None, key: bytes | None = None) -> Iterator[ApiServer]:
    """Serve on a free port of 127.0.0.1, with the API server's certificate of `files` unless another is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "server.pem").write_bytes((certificate or pki("apiserver.crt")) + (key or pki("apiserver.key")))
    (folder / "ca.pem").write_bytes(pki("ca.crt"))
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    api = ApiServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        number = 0

        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()
            api.connections += 1
            self.number = api.connections

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            subject = dict(pair[0] for pair in (self.request.getpeercert() or {}).get("subject", ()))
            headers = {**self.headers, "Peer": subject.get("commonName", "")}
            parsed = json.loads(body) if body else None
            answer = api.answer(Request(self.command, parts.path, parts.query, headers, parsed, self.number))
            if isinstance(answer, str):
                self.close_connection = True
                return
            data = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = reply  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that refuse the certificate are what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        with contextlib.suppress(OSError):
            server.server_close()

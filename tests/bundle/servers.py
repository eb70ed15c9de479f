"""Real servers to download from: one for files that fails on demand, and the registry of the distribution project."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from bootstrap.bundle.catalog import Module
from bootstrap.bundle.gomodules import check_tools, compile_module, only_builder
from tests.apiserver import pki

REGISTRY = Module(
    "registry",
    "github.com/distribution/distribution/v3",
    {"registry": "github.com/distribution/distribution/v3/cmd/registry"},
    {},
    home=Path(__file__).parent / "modules",
)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# `me` with the password `secret`, by bcrypt
HTPASSWD = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
INDEX = "application/vnd.oci.image.index.v1+json"


def build_registry() -> Path:
    """Give the path of the program, built as the bundle's are where the user's cache does not hold it."""
    with only_builder(print):
        return compile_module(REGISTRY, REGISTRY.programs, check_tools(), print) / "registry"


@dataclass(frozen=True)
class Request:
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """With `cut`, the connection is reset after so many bytes of the body; with `stall`, nothing more is sent then."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    stall: bool = False
    byte_seconds: float = 0


@dataclass
class FileServer:
    """Serves `files` by path, with ranges. `before` may answer in the server's place."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    before: Callable[[Request], Reply | None] = lambda _request: None
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        replied = self.before(request)
        if replied is not None:
            return replied
        if request.path not in self.files:
            return Reply(404)
        return part(self.files[request.path], request)


def part(data: bytes, request: Request) -> Reply:
    """Answer with the range of `data` that is asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if wanted is None:
        return Reply(200, body=data)
    start = int(wanted[1])
    if start >= len(data):
        return Reply(416)
    return Reply(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])


@contextmanager
def serving_files(folder: Path, *, tls: bool = True) -> Iterator[FileServer]:
    """Serve on a free port of 127.0.0.1, with a certificate of `ca.pem`, which is put into `folder`."""
    served = FileServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            if tls:
                self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            reply = served.answer(Request(parts.path, parts.query, dict(self.headers)))
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.send(reply)

        def send(self, reply: Reply) -> None:
            body = reply.body if reply.cut is None else reply.body[: reply.cut]
            if reply.byte_seconds:
                for byte in body:
                    self.wfile.write(bytes((byte,)))
                    if served.closing.wait(reply.byte_seconds):
                        return
            self.wfile.write(body)
            if reply.stall:
                served.closing.wait()
            self.close_connection = self.close_connection or reply.cut is not None

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that refuse the certificate are what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    served.url = f"http{'s' * tls}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Put a certificate for 127.0.0.1, its key and its CA (`ca.pem`) into `folder`."""
    (folder / "ca.pem").write_bytes(pki("ca.crt"))
    (folder / "server.crt").write_bytes(pki("apiserver.crt"))
    (folder / "server.key").write_bytes(pki("apiserver.key"))
    return folder / "server.crt", folder / "server.key"


@dataclass(frozen=True)
class RegistryServer:
    """A registry with a certificate of `ca`, whose data are in `folder`."""

    url: str
    folder: Path
    ca: Path
    authorization: str = ""
    _connection: http.client.HTTPSConnection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        context = ssl.create_default_context(cafile=str(self.ca))
        object.__setattr__(self, "_connection", http.client.HTTPSConnection(self.host, context=context))

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def close(self) -> None:
        self._connection.close()

    def push(self, repository: str, tag: str, image: Mapping[str, Sequence[bytes]]) -> str:
        """Push an image of these layers by platform, as an index, and give the index's digest."""
        manifests = []
        for platform, layers in image.items():
            system, _, architecture = platform.partition("/")
            config = json.dumps({"architecture": architecture, "os": system, "rootfs": {"type": "layers"}}).encode()
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self._blob(repository, config, "application/vnd.oci.image.config.v1+json"),
                "layers": [self._blob(repository, data, "application/vnd.oci.image.layer.v1.tar") for data in layers],
            }
            described = self._manifest(repository, None, document, MANIFEST)
            manifests.append({**described, "platform": {"architecture": architecture, "os": system}})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return str(self._manifest(repository, tag, index, INDEX)["digest"])

    def blob(self, digest: str) -> Path:
        """Give where the registry keeps the bytes of a blob."""
        name = digest.removeprefix("sha256:")
        return self.folder / "docker" / "registry" / "v2" / "blobs" / "sha256" / name[:2] / name / "data"

    def _blob(self, repository: str, data: bytes, media_type: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = self._call("POST", f"/v2/{repository}/blobs/uploads/", b"", {})
        parts = urlsplit(place)
        query = f"{parts.query}&{urlencode({'digest': digest})}"
        self._call("PUT", f"{parts.path}?{query}", data, {"Content-Type": "application/octet-stream"})
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _manifest(self, repository: str, tag: str | None, document: object, media_type: str) -> dict[str, object]:
        data = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._call("PUT", f"/v2/{repository}/manifests/{tag or digest}", data, {"Content-Type": media_type})
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _call(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> str:
        own = {"Authorization": self.authorization} if self.authorization else {}
        self._connection.request(method, path, body, {**headers, **own})
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status in {201, 202}, f"{method} {path}: {answer.status} {said!r}"
        return answer.headers.get("Location", "")


@contextmanager
def running_registry(
    program: Path, folder: Path, *, auth: str = "", authorization: str = "", stock: Path | None = None
) -> Iterator[RegistryServer]:
    """Run the registry on a free port of 127.0.0.1, with a copy of the data `stock`, and the `auth` of its settings."""
    folder.mkdir()
    if stock is not None:
        shutil.copytree(stock, folder / "data")
    crt, key = certificate(folder)
    config = folder / "config.yml"
    port = _free_port()
    config.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: test, tls: {{certificate: {crt}, key: {key}}}}}\n"
        f"{auth}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        _wait_for(port, process, folder / "log")
        url = f"https://127.0.0.1:{port}"
        with contextlib.closing(RegistryServer(url, folder / "data", folder / "ca.pem", authorization)) as server:
            yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def running_private_registry(program: Path, folder: Path) -> Iterator[RegistryServer]:
    """Run a registry that wants the login of `me` with the password `secret` (basic authentication)."""
    passwords = folder.with_name(f"{folder.name}.htpasswd")
    passwords.write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: test, path: {passwords}}}}}\n"
    with running_registry(program, folder, auth=auth, authorization=basic("me", "secret")) as server:
        yield server


def basic(user: str, password: str) -> str:
    """Give the value of an Authorization header."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def token(access: object, *, issuer: str, audience: str) -> str:
    """Make a token for the registry (RFC 7519), signed with the certificate that `certificate` gives."""
    der = base64.b64encode(x509.load_pem_x509_certificate(pki("apiserver.crt")).public_bytes(Encoding.DER)).decode()
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": "me", "jti": "1", "access": access}
    claims |= {"iat": now, "nbf": now - 60, "exp": now + 300}
    head = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, claims))
    key = load_pem_private_key(pki("apiserver.key"), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    numbers = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    signature = b"".join(number.to_bytes(32, "big") for number in numbers)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def docker_config(path: Path, host: str, user: str, password: str) -> Path:
    """Write a file of logins as `docker login` does."""
    login = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": {host: login}}))
    path.chmod(0o600)
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"the registry does not answer: {log.read_text()}") from error
            time.sleep(0.05)
        else:
            return

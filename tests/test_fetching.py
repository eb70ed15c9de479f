"""Machines that fetch blobs themselves, with real curl and wget from a real server."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bootstrap import batch
from bootstrap.steps import Binary, Server
from tests.isolated import IsolatedHost

BLOB = os.urandom(300_000)
DIGEST = hashlib.sha256(BLOB).hexdigest()


@dataclass
class Files:
    """What a server has, by path, and what it was asked for: path and range. The first answer may be cut short."""

    content: dict[str, bytes]
    cut: int = 0
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving(files: Files, certificate: Path | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"] if files.ranges else None
            files.asked.append((self.path, self.headers["Range"]))
            data = files.content.get(self.path)
            if data is None:
                self.send_error(404)
                return
            begin = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            if wanted:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[begin : files.cut or None])
            files.cut = 0

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}/some/where"
        server.shutdown()


@dataclass(frozen=True)
class Machine:
    host: IsolatedHost
    state: Path

    @property
    def place(self) -> Path:
        return self.state.parent / "placed"

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in (self.state / "kubestrap/blobs/sha256").glob("*"))

    def place_from(self, url: str, ca: bytes = b"") -> batch.Answer:
        step = Binary(str(self.place), DIGEST, len(BLOB), server=Server(url, ca))
        assert batch.compile_needs([step]) is None
        ran = self.host.run(batch.COMMAND, stdin=batch.compile_steps([step]), seconds=60)
        assert ran.stderr == b""
        (answer,) = (batch.parse(line) for line in ran.stdout.splitlines())
        return answer

    def fails(self, url: str) -> str:
        answer = self.place_from(url)
        assert isinstance(answer, batch.Failed)
        assert not self.place.exists()
        return answer.text


@pytest.fixture(params=[("dash", "wget"), ("busybox", "curl"), ("bash", "wget")])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine with another shell, and one of the two programs."""
    shell, lacking = request.param
    state = tmp_path / "var-lib"
    state.mkdir()
    return Machine(IsolatedHost(state, shell=shell, lacks=[lacking]), state)


def having(*blobs: bytes, **options: int) -> Files:
    return Files({f"/some/where/{DIGEST}": blob for blob in blobs}, **options)


def test_a_blob_is_fetched_once(machine: Machine) -> None:
    files = having(BLOB)
    with serving(files) as url:
        assert machine.place_from(url) == batch.Changed(0, "created")
        assert machine.place.read_bytes() == BLOB
        assert machine.place_from(url) == batch.Same(0)
    assert len(files.asked) == 1
    assert machine.left == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_is_cut_costs_no_more_than_what_did_not_come(machine: Machine, ranges: bool) -> None:
    files = having(BLOB, cut=200_000, ranges=ranges)
    with serving(files) as url:
        assert machine.place_from(url) == batch.Changed(0, "created")
    assert machine.place.read_bytes() == BLOB
    assert (f"/some/where/{DIGEST}", "bytes=200000-") in files.asked


def test_what_is_not_there_is_told_with_its_address(machine: Machine) -> None:
    with serving(having()) as url:
        told = machine.fails(url)
    assert told.startswith(f"{url}/{DIGEST} could not be fetched: ")
    assert "404" in told


def test_a_server_that_is_not_there_is_told(machine: Machine) -> None:
    with serving(having()) as url:
        pass
    assert "onnect" in machine.fails(url)


def test_something_else_than_the_bundle_has_is_not_kept(machine: Machine) -> None:
    other = b"x" * len(BLOB)
    with serving(having(other)) as url:
        told = machine.fails(url)
    assert f"what came from {url}/{DIGEST} is not what the bundle has" in told
    assert hashlib.sha256(other).hexdigest() in told
    assert machine.left == []


def test_a_server_is_known_by_the_ca_that_is_given(machine: Machine, tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(made, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    ca = (tmp_path / "ca.pem").read_bytes()
    certificate.write_bytes(ca + (tmp_path / "key.pem").read_bytes())
    with serving(having(BLOB), certificate) as url:
        assert "ertificate" in machine.fails(url)
        assert machine.place_from(url, ca) == batch.Changed(0, "created")
    assert machine.place.read_bytes() == BLOB


def test_a_machine_with_neither_program_says_so(tmp_path: Path) -> None:
    state = tmp_path / "var-lib"
    state.mkdir()
    bare = Machine(IsolatedHost(state, lacks=["curl", "wget"]), state)
    assert "there is neither curl nor wget" in bare.fails("http://192.0.2.1/there")

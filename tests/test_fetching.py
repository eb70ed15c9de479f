"""Machines that fetch blobs themselves, with real curl and wget from a real server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap import batch
from bootstrap.steps import Binary, Server
from tests.bundle.servers import FileServer, Reply, Request, serving_files
from tests.isolated import IsolatedHost

BLOB = os.urandom(300_000)
DIGEST = hashlib.sha256(BLOB).hexdigest()
FOLDER = "/some/where"
PATH = f"{FOLDER}/{DIGEST}"


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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    """A server that has the blob."""
    with serving_files(tmp_path, tls=False) as started:
        started.files[PATH] = BLOB
        yield started


def test_a_blob_is_fetched_once(machine: Machine, server: FileServer) -> None:
    assert machine.place_from(server.url + FOLDER) == batch.Changed(0, "created")
    assert machine.place.read_bytes() == BLOB
    assert machine.place_from(server.url + FOLDER) == batch.Same(0)
    assert len(server.requests) == 1
    assert machine.left == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_is_cut_costs_no_more_than_what_did_not_come(
    machine: Machine, server: FileServer, ranges: bool
) -> None:
    def before(request: Request) -> Reply | None:
        if len(server.requests) == 1:
            return Reply(body=BLOB, cut=200_000)
        return None if ranges else Reply(body=BLOB)

    server.before = before
    assert machine.place_from(server.url + FOLDER) == batch.Changed(0, "created")
    assert machine.place.read_bytes() == BLOB
    assert (PATH, "bytes=200000-") in [(request.path, request.headers.get("Range")) for request in server.requests]


def test_what_is_not_there_is_told_with_its_address(machine: Machine, server: FileServer) -> None:
    server.files.clear()
    told = machine.fails(server.url + FOLDER)
    assert told.startswith(f"{server.url}{PATH} could not be fetched: ")
    assert "404" in told


def test_a_server_that_is_not_there_is_told(machine: Machine, tmp_path: Path) -> None:
    with serving_files(tmp_path, tls=False) as server:
        pass
    assert "onnect" in machine.fails(server.url + FOLDER)


def test_something_else_than_the_bundle_has_is_not_kept(machine: Machine, server: FileServer) -> None:
    server.files[PATH] = other = b"x" * len(BLOB)
    told = machine.fails(server.url + FOLDER)
    assert f"what came from {server.url}{PATH} is not what the bundle has" in told
    assert hashlib.sha256(other).hexdigest() in told
    assert machine.left == []


def test_a_server_is_known_by_the_ca_that_is_given(machine: Machine, tmp_path: Path) -> None:
    with serving_files(tmp_path) as server:
        server.files[PATH] = BLOB
        assert "ertificate" in machine.fails(server.url + FOLDER)
        assert machine.place_from(server.url + FOLDER, (tmp_path / "ca.pem").read_bytes()) == batch.Changed(
            0, "created"
        )
    assert machine.place.read_bytes() == BLOB


def test_a_machine_with_neither_program_says_so(tmp_path: Path) -> None:
    state = tmp_path / "var-lib"
    state.mkdir()
    bare = Machine(IsolatedHost(state, lacks=["curl", "wget"]), state)
    assert "there is neither curl nor wget" in bare.fails("http://192.0.2.1/there")

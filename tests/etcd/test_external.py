"""Preflight of an etcd that others run, against servers of TLS's own kinds of refusal."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootstrap import paths, pki
from bootstrap.errors import ConfigError, Problem
from bootstrap.etcd import external
from bootstrap.site import Facts, Node
from bootstrap.spec import Cluster, ExternalEtcd, Host
from bootstrap.transport.local import LocalHost

NOW = datetime.datetime.now(datetime.UTC)
WELL = {"/version": {"etcdserver": "3.6.5"}, "/health": {"health": "true", "reason": ""}}


def minted(now: datetime.datetime = NOW, *, address: str = "127.0.0.1") -> dict[str, bytes]:
    host = Host.model_validate({"name": "cp1", "address": address, "roles": ["control-plane"]})
    cluster = Cluster.model_validate({"etcd": {"local": {"serverCertSANs": []}}})
    files = pki.complete(cluster, [Node(host, address, Facts())], now)["cp1"]
    return {path.removeprefix(f"{paths.PKI}/"): data for path, data in files.items()}


@dataclass
class Etcd:
    """A server with etcd's certificates, and answers by path."""

    folder: Path
    files: dict[str, bytes]
    answers: dict[str, Any] = field(default_factory=lambda: dict(WELL))
    port: int = 0

    @contextlib.contextmanager
    def serving(self, *, tls: bool = True, clients: bytes | None = None) -> Iterator[str]:
        (self.folder / "server.pem").write_bytes(self.files["etcd/server.crt"] + self.files["etcd/server.key"])
        (self.folder / "clients.pem").write_bytes(clients or self.files["etcd/ca.crt"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        context.load_verify_locations(self.folder / "clients.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        answers = self.answers

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                if tls:
                    self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()

            def do_GET(self) -> None:
                body = json.dumps(answers[self.path]).encode()
                self.send_response(200 if answers[self.path].get("health") != "false" else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        with Server(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"https://127.0.0.1:{server.server_port}"
            server.shutdown()


@pytest.fixture
def etcd(tmp_path: Path) -> Etcd:
    return Etcd(tmp_path, minted())


def given(folder: Path, files: dict[str, bytes], *endpoints: str) -> ExternalEtcd:
    """Write the operator's files and name them."""
    places = {
        "ca.pem": "etcd/ca.crt",
        "client.pem": "apiserver-etcd-client.crt",
        "client.key": "apiserver-etcd-client.key",
    }
    for name, held in places.items():
        (folder / name).write_bytes(files[held])
        (folder / name).chmod(0o600)
    return ExternalEtcd(
        endpoints=endpoints or ("https://127.0.0.1:2379",),
        ca_file=str(folder / "ca.pem"),
        cert_file=str(folder / "client.pem"),
        key_file=str(folder / "client.key"),
    )


def check(etcd: Etcd, *endpoints: str, files: dict[str, bytes] | None = None) -> list[Problem]:
    asked = given(etcd.folder, files or etcd.files, *endpoints)
    return external.check(asked, {name: LocalHost(name) for name in ("cp1", "cp2")})


def test_one_that_is_well_is_no_problem(etcd: Etcd) -> None:
    with etcd.serving() as url:
        assert check(etcd, url) == []


def test_the_files_are_given_where_kubeadm_has_them(etcd: Etcd) -> None:
    read = external.read(given(etcd.folder, etcd.files))
    assert read == {
        f"{paths.PKI}/etcd/ca.crt": etcd.files["etcd/ca.crt"],
        f"{paths.PKI}/apiserver-etcd-client.crt": etcd.files["apiserver-etcd-client.crt"],
        f"{paths.PKI}/apiserver-etcd-client.key": etcd.files["apiserver-etcd-client.key"],
    }


def test_a_fault_is_told_once_with_all_that_it_was_seen_of(etcd: Etcd) -> None:
    etcd.answers["/version"] = {"etcdserver": "3.5.23"}
    with etcd.serving() as one, etcd.serving() as other:
        (problem,) = check(etcd, one, other)
    assert (problem.host, problem.check, problem.level) == ("cp1", "ExternalEtcdVersion", "error")
    assert problem.what == (f"etcd at {one}, {other} has version 3.5.23, and Kubernetes needs 3.5.24 (from cp2 too)")


@pytest.mark.parametrize(
    ("version", "old"), [("3.5.23", True), ("3.5.24", False), ("3.4.99", True), ("3.6.0-rc.1", False), ("", True)]
)
def test_versions_are_compared_by_their_numbers(version: str, old: bool) -> None:
    assert external.too_old(version) == old


@pytest.mark.parametrize(
    ("reason", "told"),
    [("RAFT NO LEADER", "it has no leader"), ("ALARM NOSPACE", "its database is full"), ("odd", "is not well: odd")],
)
def test_one_without_a_quorum_or_room_is_told(etcd: Etcd, reason: str, told: str) -> None:
    etcd.answers["/health"] = {"health": "false", "reason": reason}
    with etcd.serving() as url:
        (problem,) = check(etcd, url)
    assert problem.check == "ExternalEtcdHealth"
    assert told in problem.what


def test_nobody_at_an_endpoint_is_told(etcd: Etcd) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (problem,) = check(etcd, f"https://127.0.0.1:{port}")
    assert problem.check == f"Reach-{port}"
    assert "is not reached: it is refused: nothing listens there" in problem.what


def test_a_server_of_another_ca_is_not_trusted(etcd: Etcd) -> None:
    with etcd.serving() as url:
        (problem,) = check(etcd, url, files={**etcd.files, "etcd/ca.crt": minted()["etcd/ca.crt"]})
    assert problem.check == "ExternalEtcdServerCertificates"
    assert "its certificate is not signed by caFile" in problem.what


def test_a_server_whose_certificate_expired_is_told(etcd: Etcd) -> None:
    old = minted(NOW - datetime.timedelta(days=400))
    etcd.files |= {name: old[name] for name in ("etcd/server.crt", "etcd/server.key", "etcd/ca.crt")}
    with etcd.serving() as url:
        (problem,) = check(etcd, url)
    assert problem.check == "ExternalEtcdServerCertificates"
    assert "has expired" in problem.what


def test_a_server_of_another_name_is_told(etcd: Etcd) -> None:
    with etcd.serving() as url:
        (problem,) = check(etcd, url.replace("127.0.0.1", "127.0.0.2"))
    assert "is not reached" in problem.what  # it listens on one address
    named = minted(address="127.0.0.1")
    etcd.files = named
    with etcd.serving() as url:
        assert check(etcd, url.replace("127.0.0.1", "localhost")) == []


def test_a_refused_client_is_told_with_the_servers_reason(etcd: Etcd) -> None:
    with etcd.serving(clients=minted()["etcd/ca.crt"]) as url:
        (problem,) = check(etcd, url)
    assert problem.check == "ExternalEtcdClientCertificates"
    assert "refuses the client certificate: unknown ca" in problem.what


def test_a_server_without_tls_is_told(etcd: Etcd) -> None:
    with etcd.serving(tls=False) as url:
        (problem,) = check(etcd, url)
    assert problem.check == "ExternalEtcdServerCertificates"
    assert "does not speak TLS" in problem.what


def test_every_fault_of_the_files_is_told_at_once(etcd: Etcd) -> None:
    old = minted(NOW - datetime.timedelta(days=400))
    asked = given(etcd.folder, {**etcd.files, "apiserver-etcd-client.crt": old["apiserver-etcd-client.crt"]})
    (etcd.folder / "client.key").chmod(0o644)
    (etcd.folder / "ca.pem").unlink()
    with pytest.raises(ConfigError) as refused:
        external.read(asked)
    told = str(refused.value).splitlines()
    assert len(told) == 4
    assert "caFile" in told[0]
    assert "cannot be read" in told[0]
    assert "can be read or changed by others" in told[1]
    assert "certFile" in told[2]
    assert "expired on" in told[2]
    assert "is not the key of certFile" in told[3]
    assert "PRIVATE" not in str(refused.value)

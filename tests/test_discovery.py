from __future__ import annotations

import base64
import datetime
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bootstrap import discovery, pki, tokens
from bootstrap.discovery import Discovered, connect, discover, read_cluster
from bootstrap.errors import (
    CaHashWrong,
    CaMismatch,
    ClusterInfoUnusable,
    DiscoveryError,
    ServerUnreachable,
    SignatureWrong,
    TokenRefused,
    TokenUnknown,
    UsageError,
)
from bootstrap.site import Token
from bootstrap.spec import Cluster
from bootstrap.transport.local import LocalHost
from tests import apiserver
from tests.apiserver import Answer, ApiServer, Request, serving, status

HOST = LocalHost("w1")
TOKEN = Token("abcdef", "0123456789abcdef")
INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
CONFIGS = "/api/v1/namespaces/kube-system/configmaps"


def pin() -> str:
    return tokens.ca_cert_hash(apiserver.pki("ca.crt"))


def cluster_info(ca: bytes | None = None, token: Token = TOKEN) -> dict[str, object]:
    cluster = {
        "server": "https://api.example.com:6443",
        "certificate-authority-data": base64.b64encode(ca or apiserver.pki("ca.crt")).decode(),
    }
    content = yaml.safe_dump({"kind": "Config", "clusters": [{"name": "", "cluster": cluster}]})
    signature = tokens.sign(content.encode(), token)
    return {"kind": "ConfigMap", "data": {"kubeconfig": content, f"jws-kubeconfig-{token.id}": signature}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with serving(tmp_path) as running:
        running.put(INFO, cluster_info())
        running.put(f"{CONFIGS}/kubelet-config", {"data": {"kubelet": "kind: KubeletConfiguration\nmaxPods: 7\n"}})
        configuration = "kubernetesVersion: v1.37.2\nnetworking:\n  dnsDomain: cluster.example\n"
        running.put(f"{CONFIGS}/kubeadm-config", {"data": {"ClusterConfiguration": configuration}})
        yield running


def ask(server: ApiServer, *, token: Token = TOKEN, hashes: tuple[str, ...] = ()) -> Discovered:
    return discover(HOST, f"127.0.0.1:{server.port}", token, hashes or (pin(),), seconds=60)


def test_the_expected_cluster_is_found_and_read(server: ApiServer) -> None:
    found = ask(server)
    assert (found.address, found.port) == ("127.0.0.1", server.port)
    assert (found.server, found.ca) == ("https://api.example.com:6443", apiserver.pki("ca.crt"))
    with connect(HOST, found, TOKEN) as api:
        joined = read_cluster(api, found, TOKEN)
    assert joined.joining.kubelet_config == {"kind": "KubeletConfiguration", "maxPods": 7}
    assert joined.joining.dns_domain == "cluster.example"
    assert joined.kubernetes_version == "1.37.2"
    assert (joined.joining.server, joined.joining.ca, joined.joining.token) == (found.server, found.ca, TOKEN)


def test_the_token_is_sent_only_to_the_verified_cluster(server: ApiServer) -> None:
    found = ask(server)
    assert [request.headers.get("Authorization") for request in server.requests] == [None, None]
    with connect(HOST, found, TOKEN) as api:
        read_cluster(api, found, TOKEN)
    assert server.requests[-1].headers["Authorization"] == "Bearer abcdef.0123456789abcdef"


def test_one_of_several_hashes_is_enough(server: ApiServer) -> None:
    assert ask(server, hashes=("sha256:" + "ab" * 32, pin().upper().replace("SHA", "sha")))


def test_a_signature_that_comes_a_moment_after_the_token_is_waited_for(server: ApiServer) -> None:
    signed = server.objects.pop(INFO)
    server.put(INFO, cluster_info(token=Token("zzzzzz", TOKEN.secret)))

    def before(_: Request) -> None:
        if len(server.requests) == 3:
            server.put(INFO, signed)

    server.before = before
    assert ask(server)


def other_ca() -> bytes:
    key, now = pki.new_key("ECDSA-P256"), datetime.datetime.now(datetime.UTC)
    return pki.certificate_pem(pki.self_signed("kubernetes", key, Cluster(), now))


def test_f27_each_way_of_not_being_the_expected_cluster_is_its_own_error(server: ApiServer) -> None:
    found: list[type[DiscoveryError]] = []

    def refused(error: type[DiscoveryError], *, token: Token = TOKEN, hashes: tuple[str, ...] = ()) -> str:
        with pytest.raises(error) as raised:
            discover(HOST, f"127.0.0.1:{server.port}", token, hashes or (pin(),), seconds=60, signature_seconds=0)
        assert type(raised.value) is error
        assert TOKEN.secret not in str(raised.value)
        found.append(error)
        return str(raised.value)

    refused(CaHashWrong, hashes=("sha256:" + "ab" * 32,))
    refused(SignatureWrong, token=Token(TOKEN.id, "fedcba9876543210"))
    assert "zzzzzz" in refused(TokenUnknown, token=Token("zzzzzz", TOKEN.secret))
    foreign = other_ca()
    server.put(INFO, cluster_info(foreign))
    refused(CaHashWrong)
    refused(CaMismatch, hashes=(tokens.ca_cert_hash(foreign),))
    server.put(INFO, cluster_info(b"nonsense"))
    refused(ClusterInfoUnusable)
    server.objects.pop(INFO)
    refused(ClusterInfoUnusable)
    server.before = lambda _: status(403, "Forbidden", "system:anonymous cannot get configmaps")
    refused(ClusterInfoUnusable)
    assert len(found) == 8


def test_a_cluster_info_that_differs_once_the_server_is_verified_is_refused(server: ApiServer) -> None:
    def before(request: Request) -> None:
        if request.connection == 2:
            server.put(INFO, {"kind": "ConfigMap", "data": {"kubeconfig": "other"}})

    server.before = before
    with pytest.raises(ClusterInfoUnusable, match="changed while it was read"):
        ask(server)


def test_a_server_that_nobody_can_reach_is_told_from_the_joining_host(server: ApiServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnreachable, match=rf"^w1: .*127\.0\.0\.1:{port}") as unreachable:
        discover(HOST, f"127.0.0.1:{port}", TOKEN, [pin()], seconds=0.2)
    assert unreachable.value.exit_code == 5


@pytest.mark.parametrize("code", [401, 403])
def test_f27_a_token_that_is_known_but_not_accepted_is_its_own_error(server: ApiServer, code: int) -> None:
    def before(request: Request) -> Answer | None:
        return status(code, "", "no") if request.path.startswith(CONFIGS) else None

    server.before = before
    found = ask(server)
    with connect(HOST, found, TOKEN) as api, pytest.raises(TokenRefused):
        read_cluster(api, found, TOKEN)


def test_a_cluster_without_kubelet_config_is_refused(server: ApiServer) -> None:
    server.objects.pop(f"{CONFIGS}/kubelet-config")
    found = ask(server)
    with connect(HOST, found, TOKEN) as api, pytest.raises(ClusterInfoUnusable, match="kubelet-config"):
        read_cluster(api, found, TOKEN)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("api.example.com:6443", ("api.example.com", 6443)),
        ("https://api.example.com:7443/", ("api.example.com", 7443)),
        ("192.0.2.1", ("192.0.2.1", 6443)),
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        ("2001:db8::1", ("2001:db8::1", 6443)),
    ],
)
def test_servers_are_read_with_and_without_scheme_and_port(text: str, wanted: tuple[str, int]) -> None:
    assert discovery.parse_server(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "http://x:1", "x:y", "x:99999", "https://x/path", "user@x:1", "a b", "https://x:1?q", "[x]:1"]
)
def test_malformed_servers_are_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(UsageError, match="not the address of an API server"):
        discover(HOST, text, TOKEN, [pin()])


@pytest.mark.parametrize("hashes", [[], ["sha256:x"], [""]])
def test_malformed_or_missing_hashes_are_refused_before_anything_is_sent(hashes: list[str]) -> None:
    with pytest.raises(UsageError, match="hash"):
        discover(HOST, "127.0.0.1:1", TOKEN, hashes)

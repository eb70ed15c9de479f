from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootstrap import api as api_module
from bootstrap import paths
from bootstrap.api import Api, object_path
from bootstrap.errors import ApiError, ApiUnreachable, ApiUntrusted
from bootstrap.transport.local import LocalHost
from tests.apiserver import HANG_UP, Answer, ApiServer, Request, files, pki, serving, status

HOST = LocalHost("cp1")
SECONDS = 60.0
MAP = "/api/v1/namespaces/kube-system/configmaps/a"


def config_map(**data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "kube-system"},
        "data": data,
    }


@pytest.fixture
def api(server: ApiServer) -> Iterator[Api]:
    with connect(server, token="t") as client:
        yield client


def connect(server: ApiServer, *, name: str = "kubernetes", seconds: float = SECONDS, token: str = "") -> Api:
    return Api.connect(HOST, "127.0.0.1", server.port, server_name=name, ca=pki("ca.crt"), token=token, seconds=seconds)


def failing_first(server: ApiServer, times: int, answer: Answer | str) -> None:
    def before(_: Request) -> Answer | str | None:
        return answer if len(server.requests) <= times else None

    server.before = before


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (("v1", "Node", "n1"), "/api/v1/nodes/n1"),
        (("v1", "ConfigMap", "a", "kube-system"), MAP),
        (("apps/v1", "DaemonSet", "x", "ns"), "/apis/apps/v1/namespaces/ns/daemonsets/x"),
        (
            ("rbac.authorization.k8s.io/v1", "ClusterRole", "kubeadm:get-nodes"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/kubeadm%3Aget-nodes",
        ),
    ],
)
def test_paths_are_the_apis(args: tuple[str, ...], path: str) -> None:
    assert object_path(*args) == path


def test_the_server_is_known_by_a_name_that_is_not_dialled(server: ApiServer) -> None:
    server.put("/api/v1/nodes/n1", {"kind": "Node"})
    with connect(server, name="kubernetes.default.svc", token="abc") as client:
        assert client.get_object("v1", "Node", "n1") is not None
    assert server.requests[0].headers["Authorization"] == "Bearer abc"


def test_a_server_of_another_name_is_refused_before_anything_is_sent(server: ApiServer) -> None:
    with connect(server, name="other.example.com", token="abc") as client, pytest.raises(ApiUntrusted):
        client.get("/version")
    assert server.requests == []


def test_a_server_of_another_ca_is_refused_before_anything_is_sent(server: ApiServer) -> None:
    client = Api.connect(
        HOST, "127.0.0.1", server.port, server_name="kubernetes", ca=pki("etcd/ca.crt"), token="abc", seconds=SECONDS
    )
    with client, pytest.raises(ApiUntrusted):
        client.get("/version")
    assert server.requests == []


def test_credentials_do_not_go_to_unverified_servers() -> None:
    with pytest.raises(ValueError, match="not verified"):
        Api.connect(HOST, "127.0.0.1", 1, server_name="x", ca=None, token="abc")


def test_a_kubeconfigs_certificate_and_key_are_used(server: ApiServer) -> None:
    with Api.from_kubeconfig(HOST, files()[paths.ADMIN_CONF], address="127.0.0.1", port=server.port) as client:
        assert client.get_object("v1", "Node", "n1") is None
    assert server.requests[0].headers["Peer"] == "kubernetes-admin"


def test_calls_share_one_connection(server: ApiServer, api: Api) -> None:
    for _ in range(3):
        api.get_object("v1", "Node", "n1")
    api.apply(config_map(x="y"))
    assert {request.connection for request in server.requests} == {1}


def test_threads_share_one_connection(server: ApiServer, api: Api) -> None:
    threads = [threading.Thread(target=api.get_object, args=("v1", "Node", f"n{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {request.path for request in server.requests} == {f"/api/v1/nodes/n{n}" for n in range(8)}
    assert server.connections == 1


def test_a_connection_that_broke_is_made_again(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(x="y"))
    failing_first(server, 1, HANG_UP)
    assert api.get_object("v1", "ConfigMap", "a", "kube-system") is not None
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize("code", [429, 500, 503, 504])
def test_a_server_that_cannot_just_now_is_asked_again(server: ApiServer, api: Api, code: int) -> None:
    failing_first(server, 2, status(code, "InternalError", "later"))
    api.apply(config_map(x="y"))
    assert server.objects[MAP]["data"] == {"x": "y"}
    assert len(server.requests) == 3


def test_a_refusal_is_final_and_says_what_the_server_said(server: ApiServer, api: Api) -> None:
    failing_first(server, 9, status(403, "Forbidden", 'User "x" cannot get nodes', kind="nodes"))
    with pytest.raises(ApiError, match=r'^cp1: .* refused GET /api/v1/nodes/n1: User "x" cannot get nodes$') as refused:
        api.get_object("v1", "Node", "n1")
    assert (refused.value.status, refused.value.reason, refused.value.kind) == (403, "Forbidden", "nodes")
    assert len(server.requests) == 1


def test_an_object_of_a_wrong_type_is_refused_at_once(server: ApiServer, api: Api) -> None:
    failing_first(server, 9, status(500, "", "failed to create typed patch object"))
    with pytest.raises(ApiError, match="typed patch object"):
        api.apply(config_map(x="y"))
    assert len(server.requests) == 1


def test_creating_is_not_sent_twice_once_it_may_have_arrived(server: ApiServer, api: Api) -> None:
    failing_first(server, 1, HANG_UP)
    with pytest.raises(ApiUnreachable):
        api.create(config_map(x="y"))
    assert len(server.requests) == 1


def test_a_server_that_does_not_listen_yet_is_waited_for(tmp_path: Path) -> None:
    listening = threading.Event()

    class Late(LocalHost):
        def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
            if not listening.is_set():
                listening.set()
                raise ConnectionRefusedError("refused")
            return super().dial(address, port, seconds=seconds)

    with serving(tmp_path) as server:
        client = Api.connect(
            Late(), "127.0.0.1", server.port, server_name="kubernetes", ca=pki("ca.crt"), seconds=SECONDS
        )
        with client:
            assert client.get_object("v1", "Node", "n1") is None


def test_where_nothing_listens_the_error_says_where_and_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Api.connect(HOST, "127.0.0.1", port, server_name="kubernetes", ca=pki("ca.crt"), seconds=0.2)
    with pytest.raises(ApiUnreachable, match=rf"127\.0\.0\.1:{port}.*refused") as unreachable:
        client.get("/version")
    assert unreachable.value.host == "cp1"


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        client = Api.connect(HOST, "127.0.0.1", port, server_name="kubernetes", ca=pki("ca.crt"), seconds=0.3)
        with client, pytest.raises(ApiUnreachable, match="timed out"):
            client.get("/version")


def test_lists_are_narrowed_by_selectors(server: ApiServer, api: Api) -> None:
    server.objects["/api/v1/namespaces/kube-system/secrets"] = {"items": [{"metadata": {"name": "a"}}]}
    assert api.list("v1", "Secret", "kube-system", labels="a=b", fields="type=x") == [{"metadata": {"name": "a"}}]
    assert server.requests[0].query == "labelSelector=a%3Db&fieldSelector=type%3Dx"


def test_applying_is_server_side_apply_by_force(server: ApiServer, api: Api) -> None:
    api.apply(config_map(x="y"))
    request = server.requests[0]
    assert (request.method, request.path) == ("PATCH", MAP)
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.query == "fieldManager=kubestrap&force=true"


def test_a_version_given_guards_against_other_writers(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(x="y"))
    for write in (
        lambda: api.apply(config_map(x="z"), resource_version="0"),
        lambda: api.merge_patch("v1", "ConfigMap", "a", {"data": {"x": "z"}}, "kube-system", resource_version="0"),
    ):
        with pytest.raises(ApiError) as refused:
            write()
        assert refused.value.status == 409
    assert server.objects[MAP]["data"] == {"x": "y"}


def test_deleting_says_whether_something_was_there(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map())
    assert api.delete("v1", "ConfigMap", "a", "kube-system")
    assert not api.delete("v1", "ConfigMap", "a", "kube-system")


def test_large_answers_arrive_whole(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(x="y" * 1_000_000))
    found = api.get_object("v1", "ConfigMap", "a", "kube-system")
    assert found is not None
    assert found["data"] == {"x": "y" * 1_000_000}
    api.apply(config_map(x="z" * 1_000_000))
    assert server.objects[MAP]["data"] == {"x": "z" * 1_000_000}


def test_unreadable_certificates_are_told_apart_from_a_silent_server() -> None:
    with pytest.raises(ApiUntrusted, match="cannot be used"):
        Api.connect(HOST, "127.0.0.1", 1, server_name="x", ca=b"nonsense")


def test_keys_are_read_from_memory_only() -> None:
    with ExitStack() as stack:
        path = Path(api_module._in_memory(stack, b"data"))
        assert path.read_bytes() == b"data"
        assert "memfd" in str(path.readlink())

"""What the smoke test asks for; it is run for real in tests/lab/shared/test_verify.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from bootstrap.spec import Host, Inventory
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost
from bootstrap.verify.smoke import ALL_PAIRS, TEXTS, UNTIL, Limits, Smoke, pairs

MASTER = Host(name="m", address="192.0.2.1", roles=("control-plane",))
WORKERS = tuple(Host(name=f"w{i}", address=f"192.0.2.1{i}", roles=("worker",)) for i in (1, 2, 3))


class Kubectl(LocalHost):
    """A machine on which kubectl answers with what `answer` says to its arguments."""

    def __init__(self, answer: Callable[[str], tuple[int, str]]) -> None:
        super().__init__("m")
        self.answer = answer
        self.asked: list[str] = []
        self.applied = b""

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        if command == "date +%s":
            return Result(0, b"1000\n", b"")
        asked = command.partition("--namespace kubestrap-verify-x ")[2]
        self.asked.append(asked)
        if asked.startswith("apply"):
            assert isinstance(stdin, bytes)
            self.applied = stdin
        status, text = self.answer(asked)
        return Result(status, text.encode() if status == 0 else b"", b"" if status == 0 else text.encode())


def smoke(kubectl: Kubectl, hosts: tuple[Host, ...] = (MASTER, *WORKERS)) -> Smoke:
    limits = Limits(rollout=1, reach=0, clean_up=1)
    return Smoke(kubectl, Inventory(hosts=hosts), "agnhost:1", "kubestrap-verify-x", limits)


def pod(app: str, node: str, *, ready: bool = True) -> dict[str, object]:
    condition = {"type": "Ready", "status": "True" if ready else "False", "message": "no room"}
    return {
        "metadata": {"name": f"{app}-{node}", "labels": {"app": app}},
        "spec": {"nodeName": node},
        "status": {"conditions": [condition], "podIP": f"10.244.0.{len(node)}"},
    }


def namespace(name: str, until: int) -> dict[str, object]:
    return {"metadata": {"name": f"kubestrap-verify-{name}", "labels": {UNTIL: str(until)}}}


def working(asked: str) -> tuple[int, str]:
    if asked.startswith("get pods"):
        return 0, json.dumps({"items": [pod("client", "w1"), pod("server", "w2")]})
    if asked.startswith("get namespaces"):
        return 0, json.dumps({"items": [namespace("killed", 999), namespace("x", 4600)]})
    if asked.startswith("get service"):
        return 0, "10.96.7.7"
    return 0, "Started HTTP server on port 8080"


def test_a_good_cluster_passes_every_part_and_all_is_removed() -> None:
    kubectl = Kubectl(working)
    parts = list(smoke(kubectl).run())
    assert [part.id for part in parts] == list(TEXTS)
    assert [part.problems for part in parts] == [()] * len(TEXTS)
    assert any(asked.startswith("delete namespace kubestrap-verify-x") for asked in kubectl.asked)


def test_a_test_says_how_long_it_is_alive_and_removes_those_that_are_not() -> None:
    kubectl = Kubectl(working)
    list(smoke(kubectl).run())
    (made,) = [item for item in json.loads(kubectl.applied)["items"] if item["kind"] == "Namespace"]
    assert made["metadata"]["labels"] == {UNTIL: "4600"}
    (deleted,) = [asked for asked in kubectl.asked if asked.startswith("delete")]
    assert deleted.split()[2:4] == ["kubestrap-verify-x", "kubestrap-verify-killed"]


def test_what_was_made_is_removed_where_the_others_cannot_be_listed() -> None:
    kubectl = Kubectl(lambda asked: (1, "no") if asked.startswith("get namespaces") else working(asked))
    assert list(smoke(kubectl).run())[-1].problems == ()
    (deleted,) = [asked for asked in kubectl.asked if asked.startswith("delete")]
    assert deleted.split()[2:4] == ["kubestrap-verify-x", "--ignore-not-found"]


def test_a_service_is_tried_by_address_and_by_name_from_every_client() -> None:
    kubectl = Kubectl(working)
    list(smoke(kubectl).run())
    tried = [asked for asked in kubectl.asked if "connect" in asked]
    assert sorted(asked.rpartition(" ")[2] for asked in tried) == [
        "'10.96.7.7:80'",
        "'server.kubestrap-verify-x.svc.cluster.local:80'",
    ]


def test_pods_of_every_two_nodes_try_each_other_both_ways() -> None:
    clients = [pod("client", node) for node in ("w1", "ww2", "www3")]

    def answer(asked: str) -> tuple[int, str]:
        if asked.startswith("get pods"):
            return 0, json.dumps({"items": [*clients, pod("server", "ww2")]})
        return (1, "TIMEOUT") if "client-w1 " in asked and "10.244.0.3" in asked else working(asked)

    kubectl = Kubectl(answer)
    problems = {part.id: part.problems for part in smoke(kubectl).run()}
    assert problems["smoke/pods"] == ("client-ww2 on ww2, 10.244.0.3:8080 from client-w1 on w1: TIMEOUT",)
    assert len([asked for asked in kubectl.asked if ":8080" in asked]) == 6


def test_of_many_nodes_neighbours_in_a_ring_try_each_other() -> None:
    few, many = range(ALL_PAIRS), range(ALL_PAIRS + 1)
    assert len(list(pairs(few))) == ALL_PAIRS * (ALL_PAIRS - 1)
    tried = list(pairs(many))
    assert len(tried) == 2 * len(many)
    assert {(one, other) for other, one in tried} == set(tried)
    assert {one for one, _ in tried} == set(many)


def test_a_failure_names_the_pod_and_its_node() -> None:
    kubectl = Kubectl(lambda asked: (1, "TIMEOUT") if "connect" in asked else working(asked))
    problems = {part.id: part.problems for part in smoke(kubectl).run()}
    assert problems["smoke/service-address"] == ("10.96.7.7:80 from client-w1 on w1: TIMEOUT",)
    assert problems["smoke/exec"] == ()


def test_without_pods_nothing_else_is_said_to_work() -> None:
    def answer(asked: str) -> tuple[int, str]:
        if asked.startswith("get pods"):
            return 0, json.dumps({"items": [pod("client", "w1"), pod("server", "w2", ready=False)]})
        return working(asked)

    problems = {part.id: part.problems for part in smoke(Kubectl(answer)).run()}
    assert problems["smoke/rollout"] == ("server-w2 on w2: no room",)
    assert problems["smoke/logs"] == ("no Pods run that it could be tried with",)


def test_what_was_made_is_removed_when_the_test_is_left_early() -> None:
    kubectl = Kubectl(working)
    parts = smoke(kubectl).run()
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert any(asked.startswith("delete namespace") for asked in kubectl.asked)


def test_servers_are_spread_over_workers_and_clients_run_everywhere() -> None:
    kubectl = Kubectl(working)
    list(smoke(kubectl).run())
    namespace, deployment, daemonset, service = json.loads(kubectl.applied)["items"]
    assert namespace["metadata"]["name"] == "kubestrap-verify-x"
    assert deployment["spec"]["replicas"] == 3
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0]
    assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (1, "DoNotSchedule")
    assert deployment["spec"]["template"]["spec"]["tolerations"] == []
    assert daemonset["spec"]["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert service["spec"]["ports"] == [{"port": 80, "targetPort": 8080}]


def test_one_machine_alone_is_a_cluster() -> None:
    kubectl = Kubectl(working)
    list(smoke(kubectl, (Host(name="m", address="192.0.2.1", roles=("control-plane",)),)).run())
    deployment = json.loads(kubectl.applied)["items"][1]
    assert deployment["spec"]["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert deployment["spec"]["replicas"] == 2

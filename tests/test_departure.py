"""Taking Nodes out of a cluster, against a server that answers as the API does; real ones leave in tests/lab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bootstrap.api import Api
from bootstrap.departure import depart
from bootstrap.errors import ApiUnreachable, BootstrapError, WaitTimedOut
from bootstrap.events import Event, Note, StepDone, Waiting
from tests.apiserver import Answer, ApiServer, Request, status

NODE = "/api/v1/nodes/w1"
BUDGET = "The disruption budget web needs 2 healthy pods and has 2 currently"


class Machine:
    """The Node `w1`, and Pods on it that end as soon as they are asked to, where `budget` lets them."""

    def __init__(self, server: ApiServer, *, ready: bool = True, ends: bool = True) -> None:
        self.server, self.ends = server, ends
        self.pods: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refusals: dict[str, Answer] = {}
        conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
        info = {"machineID": "id"}
        server.put(
            NODE,
            {
                "metadata": {"name": "w1"},
                "spec": {},
                "status": {"nodeInfo": info, "conditions": conditions},
            },
        )
        server.before = self.answer

    def pod(self, name: str, *, owner: str = "ReplicaSet", phase: str = "Running", **fields: Any) -> None:
        owners = [{"kind": owner, "controller": True}] if owner else []
        metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "ownerReferences": owners}
        spec = {"volumes": fields.pop("volumes", [])}
        self.pods[name] = {"metadata": {**metadata, **fields}, "spec": spec, "status": {"phase": phase}}

    def answer(self, request: Request) -> Answer | str | None:
        if request.path == "/api/v1/pods":
            assert request.query == "fieldSelector=spec.nodeName%3Dw1"
            return 200, {"items": list(self.pods.values())}
        if not request.path.endswith("/eviction"):
            return None
        assert "unschedulable" in self.server.objects[NODE]["spec"], "evicted before the Node was cordoned"
        name = request.path.split("/")[-2]
        assert request.body["deleteOptions"]["preconditions"]["uid"] == f"uid-{name}"
        self.asked.append(name)
        if name in self.refusals:
            return self.refusals[name]
        if self.ends:
            del self.pods[name]
        else:
            self.pods[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return 201, {"kind": "Status"}


def refused() -> Answer:
    code, body = status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
    return code, {**body, "details": {"causes": [{"reason": "DisruptionBudget", "message": BUDGET}]}}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootstrap.departure._PAUSE", 0.01)


def leave(
    api: Api, *, seconds: float = 60, force: bool = False, machine: str = "id"
) -> tuple[Mapping[str, BootstrapError], list[Event]]:
    events: list[Event] = []
    return depart(api, {"w1": machine}, events.append, seconds=seconds, force=force), events


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def test_a_node_is_cordoned_emptied_and_deleted_in_this_order(server: ApiServer, api: Api) -> None:
    machine = Machine(server)
    machine.pod("web")
    failures, events = leave(api)
    assert failures == {}
    done = [(event.step, event.what) for event in events if isinstance(event, StepDone)]
    assert done == [("Node w1", "cordoned"), ("Pod default/web", "evicted"), ("Node w1", "deleted")]
    assert NODE not in server.objects
    assert notes(events) == []


def test_pods_that_belong_to_the_machine_stay(server: ApiServer, api: Api) -> None:
    machine = Machine(server)
    machine.pod("proxy", owner="DaemonSet")
    machine.pod("static", owner="Node", annotations={"kubernetes.io/config.mirror": "x"})
    machine.pod("done", owner="Job", phase="Succeeded")
    assert leave(api)[0] == {}
    assert machine.asked == []


def test_what_is_lost_with_the_machine_is_told_once(server: ApiServer, api: Api) -> None:
    machine = Machine(server)
    machine.pod("db", volumes=[{"name": "data", "emptyDir": {}}, {"name": "conf", "configMap": {}}])
    machine.pod("lone", owner="")
    machine.refusals["db"] = refused()
    _, events = leave(api, seconds=0.5, force=True)
    assert notes(events)[:2] == [
        "w1: Pod default/db keeps data on the machine, which are lost with it (emptyDir data)",
        "w1: Pod default/lone has no controller that would make it anew elsewhere",
    ]
    assert len([text for text in notes(events) if "emptyDir" in text]) == 1


def test_a_budget_is_waited_for(server: ApiServer, api: Api) -> None:
    machine = Machine(server)
    machine.pod("web")
    asked = iter([refused(), refused()])

    def before(request: Request) -> Answer | str | None:
        if request.path.endswith("/eviction") and (answer := next(asked, None)):
            return answer
        return machine.answer(request)

    server.before = before
    failures, events = leave(api)
    assert failures == {}
    assert next(event.what for event in events if isinstance(event, Waiting)) == "Pods to leave, default/web"
    assert NODE not in server.objects


def test_a_budget_that_never_allows_it_is_told_and_the_node_stays(server: ApiServer, api: Api) -> None:
    machine = Machine(server)
    machine.pod("web")
    machine.refusals["web"] = refused()
    failures, _ = leave(api, seconds=0.2)
    assert isinstance(failures["w1"], WaitTimedOut)
    assert "waited 0.2 s for Pods to leave the Node: default/web: Cannot evict" in str(failures["w1"])
    assert BUDGET in str(failures["w1"])
    assert "kubectl uncordon w1" in str(failures["w1"])
    assert server.objects[NODE]["spec"] == {"unschedulable": True}


def test_with_force_the_node_goes_and_what_stayed_is_told(server: ApiServer, api: Api) -> None:
    machine = Machine(server, ends=False)
    machine.pod("slow")
    failures, events = leave(api, seconds=0.2, force=True)
    assert failures == {}
    assert NODE not in server.objects
    assert "default/slow: it has not ended yet. The Node goes all the same" in notes(events)[-1]


def test_pods_of_a_node_that_is_not_ready_are_asked_and_not_waited_for(server: ApiServer, api: Api) -> None:
    machine = Machine(server, ready=False, ends=False)
    machine.pod("web")
    failures, events = leave(api)
    assert failures == {}
    assert machine.asked == ["web"]
    assert "not Ready" in notes(events)[0]


@pytest.mark.parametrize("answer", [status(404, "NotFound", "gone"), status(409, "Conflict", "another uid")])
def test_a_pod_that_went_by_itself_is_no_failure(server: ApiServer, api: Api, answer: Answer) -> None:
    machine = Machine(server)
    machine.pod("web")

    def before(request: Request) -> Answer | str | None:
        if request.path.endswith("/eviction"):
            machine.pods.clear()
            return answer
        return machine.answer(request)

    server.before = before
    assert leave(api)[0] == {}


def test_the_node_of_another_machine_is_left_alone(server: ApiServer, api: Api) -> None:
    Machine(server).pod("web")
    failures, events = leave(api, machine="another")
    assert failures == {}
    assert server.objects[NODE]["spec"] == {}
    assert "another machine" in notes(events)[0]


@pytest.mark.parametrize("known", ["", "id"])
def test_a_node_that_is_not_there_has_left_already(server: ApiServer, api: Api, known: str) -> None:
    assert server.objects == {}
    assert leave(api, machine=known) == ({}, [])


def test_an_api_that_ends_in_the_middle_is_the_hosts_failure(server: ApiServer, api: Api) -> None:
    machine = Machine(server)
    machine.pod("web")
    server.before = lambda request: (503, {}) if request.method == "DELETE" else machine.answer(request)
    api.seconds = 2
    failures, _ = leave(api)
    assert isinstance(failures["w1"], BootstrapError)
    assert not isinstance(failures["w1"], ApiUnreachable)
    assert NODE in server.objects

from __future__ import annotations

from typing import Any

import pytest

from bootstrap.api import Api
from bootstrap.cluster import do, look
from bootstrap.errors import ApiError, ApiUnreachable, WaitTimedOut
from bootstrap.steps import ApiAbsent, ApiObject, ApiWait, Json, NodeMarks
from tests.apiserver import Answer, ApiServer, Request, status

MAP = "/api/v1/namespaces/kube-public/configmaps/a"
NODE = "/api/v1/nodes/n1"
ROLE = ("node-role.kubernetes.io/control-plane", "")
TAINT = ("node-role.kubernetes.io/control-plane", "", "NoSchedule")


def config_map(**data: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "kube-public"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def node(server: ApiServer, *taints: dict[str, str], **labels: str) -> None:
    server.put(NODE, {"kind": "Node", "metadata": {"name": "n1", "labels": labels}, "spec": {"taints": list(taints)}})


def writes(server: ApiServer) -> list[str]:
    return [request.method for request in server.requests if request.method != "GET"]


def test_an_object_is_created_then_left_alone_then_mended(server: ApiServer, api: Api) -> None:
    step = ApiObject(config_map(x="y"))
    assert do(step, api) == "created"
    assert do(step, api) is None
    server.put(MAP, config_map(x="edited"))
    assert do(step, api) == "configured"
    assert do(step, api) is None


def test_what_others_put_into_an_object_does_not_count_and_stays(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(x="y", theirs="z"))
    assert do(ApiObject(config_map(x="y")), api) is None
    assert server.objects[MAP]["data"] == {"x": "y", "theirs": "z"}


def test_another_writer_at_the_same_moment_does_not_count_as_ours(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(x="y"))

    def meddle(request: Request) -> None:
        if request.method == "PATCH" and "theirs" not in server.objects[MAP]["data"]:
            server.put(MAP, config_map(x="y", theirs="z"))

    server.before = meddle
    assert do(ApiObject(config_map(x="y")), api) is None
    assert writes(server) == ["PATCH", "PATCH"]


def test_a_namespace_that_a_starting_server_has_not_made_yet_is_waited_for(server: ApiServer, api: Api) -> None:
    def before(request: Request) -> Answer | None:
        early = request.method == "PATCH" and len(writes(server)) <= 2
        return status(404, "NotFound", 'namespaces "kube-public" not found', kind="namespaces") if early else None

    server.before = before
    waits: list[tuple[str, float]] = []
    step = ApiObject(config_map(x="y"))
    assert do(step, api, on_wait=lambda what, _elapsed, limit: waits.append((what, limit))) == "created"
    assert waits == [("ConfigMap kube-public/a", 60)] * 2


def test_a_refusal_is_not_waited_out(server: ApiServer, api: Api) -> None:
    server.before = lambda request: status(403, "Forbidden", "no") if request.method == "PATCH" else None
    with pytest.raises(ApiError):
        do(ApiObject(config_map(x="y")), api)
    assert writes(server) == ["PATCH"]


def test_an_object_that_is_being_deleted_is_made_anew(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(x="y") | {"metadata": {"deletionTimestamp": "2026-05-17T12:00:00Z"}})

    def before(_: Request) -> None:
        if len(server.requests) == 3:
            server.objects.pop(MAP)

    server.before = before
    assert do(ApiObject(config_map(x="y")), api) == "created"


def test_unless_exists_leaves_what_is_there(server: ApiServer, api: Api) -> None:
    step = ApiObject(config_map(x="y"), unless_exists=True)
    assert do(step, api) == "created"
    server.put(MAP, config_map(x="edited"))
    assert do(step, api) is None
    assert server.objects[MAP]["data"] == {"x": "edited"}


def test_absent_deletes_once(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map())
    step = ApiAbsent("v1", "ConfigMap", "a", "kube-public")
    assert do(step, api) == "deleted"
    assert do(step, api) is None


def test_marks_are_set_beside_others_and_then_left_alone(server: ApiServer, api: Api) -> None:
    node(server, {"key": "gpu", "value": "a", "effect": "NoExecute"}, rack="r1")
    step = NodeMarks("n1", labels=(ROLE,), taints=(TAINT,))
    assert do(step, api) == "labelled and tainted"
    found = server.objects[NODE]
    assert found["metadata"]["labels"] == {"rack": "r1", ROLE[0]: ""}
    assert found["spec"]["taints"] == [
        {"key": "gpu", "value": "a", "effect": "NoExecute"},
        {"key": TAINT[0], "effect": "NoSchedule"},
    ]
    assert do(step, api) is None


def test_a_taint_of_another_value_is_changed_and_an_unwanted_one_goes(server: ApiServer, api: Api) -> None:
    node(
        server,
        {"key": "gpu", "value": "old", "effect": "NoExecute", "timeAdded": "2026-05-17T12:00:00Z"},
        {"key": TAINT[0], "effect": "NoSchedule"},
        {"key": TAINT[0], "effect": "NoExecute"},
    )
    step = NodeMarks("n1", taints=(("gpu", "new", "NoExecute"),), absent_taints=((TAINT[0], "NoSchedule"),))
    assert do(step, api) == "tainted"
    assert server.objects[NODE]["spec"]["taints"] == [
        {"key": "gpu", "value": "new", "effect": "NoExecute", "timeAdded": "2026-05-17T12:00:00Z"},
        {"key": TAINT[0], "effect": "NoExecute"},
    ]
    assert do(step, api) is None


def remembered(server: ApiServer) -> list[str]:
    found = server.objects.get("/api/v1/namespaces/kube-system/configmaps/kubestrap-node-n1")
    return found["data"]["marks"].split() if found else []


def test_marks_that_were_given_and_are_given_no_more_go_and_those_of_others_stay(server: ApiServer, api: Api) -> None:
    node(server, {"key": "theirs", "effect": "NoExecute"}, theirs="x")
    rack, zone, gpu = ("rack", "r1"), ("zone", "z1"), ("gpu", "", "NoSchedule")
    do(NodeMarks("n1", (ROLE, rack, zone), (gpu,), remembered=("rack", "zone", "gpu:NoSchedule")), api)
    assert remembered(server) == ["gpu:NoSchedule", "rack", "zone"]
    step = NodeMarks("n1", (ROLE, zone), remembered=("zone",))
    assert look(step, api).after == {
        "metadata": {"labels": {"theirs": "x", ROLE[0]: "", "zone": "z1"}},
        "spec": {"taints": [{"key": "theirs", "effect": "NoExecute"}]},
    }
    assert do(step, api) == "labelled and tainted"
    assert server.objects[NODE]["metadata"]["labels"] == {"theirs": "x", ROLE[0]: "", "zone": "z1"}
    assert server.objects[NODE]["spec"]["taints"] == [{"key": "theirs", "effect": "NoExecute"}]
    assert remembered(server) == ["zone"]
    assert do(step, api) is None
    assert do(NodeMarks("n1", (ROLE,)), api) == "labelled"
    assert remembered(server) == []


def test_what_a_kubelet_gave_its_node_itself_is_remembered_too(server: ApiServer, api: Api) -> None:
    node(server, rack="r1")
    step = NodeMarks("n1", (("rack", "r1"),), remembered=("rack",))
    assert (do(step, api), do(step, api)) == ("remembered", None)


def test_a_run_killed_before_it_marks_a_node_leaves_nothing_that_the_next_does_not_know_of(
    server: ApiServer, api: Api
) -> None:
    node(server)

    def cut(request: Request) -> str | None:
        return "hang up" if request.method == "PATCH" and request.path == NODE else None

    server.before = cut
    with pytest.raises(ApiUnreachable):
        do(NodeMarks("n1", (("rack", "r1"),), remembered=("rack",)), api)
    assert remembered(server) == ["rack"]
    server.before = lambda _: None
    assert do(NodeMarks("n1"), api) == "remembered"
    assert remembered(server) == []


def test_what_is_remembered_of_a_former_node_of_the_name_does_not_count(server: ApiServer, api: Api) -> None:
    node(server)
    do(NodeMarks("n1", (("rack", "r1"),), remembered=("rack",)), api)
    server.put(NODE, {"kind": "Node", "metadata": {"name": "n1", "uid": "new", "labels": {"rack": "x"}}, "spec": {}})
    do(NodeMarks("n1"), api)
    assert server.objects[NODE]["metadata"]["labels"] == {"rack": "x"}


def test_marks_survive_another_writer_at_the_same_moment(server: ApiServer, api: Api) -> None:
    node(server)

    def meddle(request: Request) -> None:
        if request.method == "PATCH" and "theirs" not in server.objects[NODE]["metadata"]["labels"]:
            node(server, theirs="z")

    server.before = meddle
    assert do(NodeMarks("n1", labels=(ROLE,)), api) == "labelled"
    assert server.objects[NODE]["metadata"]["labels"] == {"theirs": "z", ROLE[0]: ""}


def test_a_node_that_is_not_there_cannot_be_marked(server: ApiServer, api: Api) -> None:
    with pytest.raises(ApiError, match="there is no Node n1"):
        do(NodeMarks("n1", labels=(ROLE,)), api)


def ready(found: Json | None) -> bool | str:
    if found is None:
        return "it has not registered"
    return found["data"].get("ready") == "yes" or "its runtime is down"


def wait(seconds: float) -> ApiWait:
    return ApiWait("Node n1 to be Ready", "v1", "ConfigMap", "a", "kube-public", ready, seconds)


def test_a_wait_ends_when_it_is_so_and_tells_how_it_goes(server: ApiServer, api: Api) -> None:
    def before(_: Request) -> None:
        if len(server.requests) == 3:
            server.put(MAP, config_map(ready="yes"))

    server.before = before
    waits: list[tuple[str, float]] = []
    assert do(wait(60), api, on_wait=lambda what, _elapsed, limit: waits.append((what, limit))) is None
    assert waits == [("Node n1 to be Ready", 60)] * 2


def test_a_wait_that_ends_in_vain_says_what_for_and_why(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(ready="no"))
    with pytest.raises(WaitTimedOut, match=r"^cp1: waited 0\.2 s for Node n1 to be Ready: its runtime is down$"):
        do(wait(0.2), api)


def test_a_wait_outlasts_a_server_that_goes_away(server: ApiServer, api: Api) -> None:
    server.put(MAP, config_map(ready="yes"))
    server.before = lambda _: status(503, "ServiceUnavailable", "starting") if len(server.requests) < 4 else None
    assert do(wait(60), api) is None

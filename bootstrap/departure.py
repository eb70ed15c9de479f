"""Taking Nodes out of a cluster that goes on: cordoned, emptied by evictions, and only then deleted.

As `kubectl drain` does it: Pods of DaemonSets and static Pods stay, all others are asked to leave as their
PodDisruptionBudgets allow. What is lost with the machine is told, and does not keep it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from bootstrap.api import Api
from bootstrap.errors import ApiError, ApiUnreachable, BootstrapError, HostError, WaitTimedOut, words
from bootstrap.events import Listener, Note, PhaseDone, PhaseStarted, StepDone, Waiting
from bootstrap.parallel import attempt
from bootstrap.steps import Json

PHASE = "drain"
_MIRROR = "kubernetes.io/config.mirror"
_PAUSE = 2.0
_CALL_SECONDS = 10.0


def depart(
    api: Api,
    machines: Mapping[str, str],
    listener: Listener,
    *,
    seconds: float,
    force: bool = False,
    emptied: Callable[[str], None] = lambda _: None,
) -> dict[str, BootstrapError]:
    """Take the Nodes of `machines` (machine ids by host name) out of the cluster; give why some are in it still.

    All are cordoned before the first Pod moves, so that none moves to a machine that leaves, too. A Node that is not
    there has left already; one that is another machine is left alone, and that is told. The Pods of each have
    `seconds` to leave; with `force` its Node is deleted in any case, and the Pods that stayed are told. `emptied` is
    called before a Node is deleted, which stays where that fails.
    """

    def cordon(name: str) -> bool:
        return _cordon(api, name, machines[name], listener)

    found, failures = attempt(list(machines), cordon)

    def leave(name: str) -> None:
        began = time.monotonic()
        steps = _leave(api, name, listener, emptied, seconds=seconds, force=force)
        listener(PhaseDone(name, PHASE, time.monotonic() - began, steps, steps))

    _, failed = attempt([name for name, there in found.items() if there], leave)
    return failures | failed


def _cordon(api: Api, name: str, machine: str, listener: Listener) -> bool:
    """Keep new Pods off the Node, and say whether it is there and is this machine."""
    node = api.get_object("v1", "Node", name)
    if node is None:
        return False
    theirs = node["status"].get("nodeInfo", {}).get("machineID", "")
    if machine and theirs and machine != theirs:
        listener(Note(f"{name}: the Node of this name is another machine (machine id {theirs}), and is left alone"))
        return False
    listener(PhaseStarted(name, PHASE))
    if not node["spec"].get("unschedulable"):
        api.merge_patch("v1", "Node", name, {"spec": {"unschedulable": True}})
        listener(StepDone(name, PHASE, f"Node {name}", "changed", "cordoned"))
    return True


def _leave(
    api: Api, name: str, listener: Listener, emptied: Callable[[str], None], *, seconds: float, force: bool
) -> int:
    evicted = 0
    try:
        for pod in _drain(api, name, listener, seconds=seconds):
            listener(StepDone(name, PHASE, f"Pod {pod}", "changed", "evicted"))
            evicted += 1
    except (ApiError, HostError) as error:
        if not force:
            what = f"{words(error)}. The Node stays cordoned (kubectl uncordon {name} undoes that)"
            raise type(error)(name, what) if isinstance(error, HostError) else HostError(name, what) from error
        listener(Note(f"{name}: {words(error)}. The Node goes all the same"))
    emptied(name)
    api.delete("v1", "Node", name)
    listener(StepDone(name, PHASE, f"Node {name}", "changed", "deleted"))
    return evicted + 1


def _drain(api: Api, name: str, listener: Listener, *, seconds: float) -> Iterator[str]:
    """Ask all Pods that can go to leave, give each that agreed, and wait until they are gone.

    Where the kubelet is gone nobody can tell that they are, so that having been asked is enough.
    """
    began = time.monotonic()
    attended = is_ready(api.get_object("v1", "Node", name))
    if not attended:
        listener(Note(f"{name}: the Node is not Ready: nobody tells when its Pods end, and they are not waited for"))
    told: set[str] = set()
    staying: dict[str, str] = {}
    while True:
        try:
            pods = [pod for pod in api.list("v1", "Pod", fields=f"spec.nodeName={name}") if _moves(pod)]
            staying = {}
            for pod in pods:
                title, uid = _title(pod), pod["metadata"]["uid"]
                if uid not in told:
                    told.add(uid)
                    for loss in _losses(pod):
                        listener(Note(f"{name}: {loss}"))
                if "deletionTimestamp" in pod["metadata"]:
                    if attended:
                        staying[title] = "it has not ended yet"
                elif why := _evict(api, pod):
                    staying[title] = why
                else:
                    yield title
                    staying[title] = "it has not ended yet"
        except ApiUnreachable as error:
            staying["the API server"] = error.what
        if not staying:
            return
        elapsed = time.monotonic() - began
        if elapsed >= seconds:
            reasons = "; ".join(f"{title}: {why}" for title, why in staying.items())
            raise WaitTimedOut(name, f"waited {seconds:g} s for Pods to leave the Node: {reasons}")
        listener(Waiting(name, PHASE, f"Pods to leave, {', '.join(staying)}", elapsed, seconds))
        time.sleep(min(_PAUSE, seconds - elapsed))


def _evict(api: Api, pod: Json) -> str:
    """Ask a Pod to leave, and give why it does not; empty where it does, or is gone or another by now."""
    metadata = pod["metadata"]
    try:
        api.evict(metadata["name"], metadata["namespace"], metadata["uid"], seconds=_CALL_SECONDS)
    except ApiError as error:
        return "" if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT) else error.said
    return ""


def _moves(pod: Json) -> bool:
    if _MIRROR in (pod["metadata"].get("annotations") or {}) or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return False
    return all(owner["kind"] != "DaemonSet" for owner in _controllers(pod))


def _losses(pod: Json) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod["spec"].get("volumes") or [] if "emptyDir" in volume]
    if volumes:
        yield f"Pod {_title(pod)} keeps data on the machine, which are lost with it (emptyDir {', '.join(volumes)})"
    if not _controllers(pod):
        yield f"Pod {_title(pod)} has no controller that would make it anew elsewhere"


def _controllers(pod: Json) -> list[Json]:
    return [owner for owner in pod["metadata"].get("ownerReferences") or [] if owner.get("controller")]


def is_ready(found: Json | None) -> bool:
    """Say whether there is such a Node or Pod, and it is Ready."""
    conditions = (found or {}).get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _title(pod: Json) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"

"""Labels and taints of a Node, beside those of others; and what was given to it before, so that it can be taken away.

What was given is remembered in a ConfigMap of the Node, `kube-system/kubestrap-node-NAME`, which goes with the Node.
Not on the Node itself, whose annotations its kubelet may change: one that is not to be trusted could have taints taken
off.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bootstrap.api import Api
from bootstrap.errors import ApiError
from bootstrap.steps import Json, NodeMarks

_NAMESPACE = "kube-system"
_KEY = "marks"


@dataclass(frozen=True, slots=True)
class Found:
    """How a Node is marked and would be; `how` is empty where it is as it should be. `version` is what was seen."""

    how: str
    before: Json
    after: Json
    patch: Json
    remembered: frozenset[str]
    version: str
    uid: str


def find(step: NodeMarks, api: Api) -> Found | None:
    """Find out what would be changed; None where there is no such Node. Raises what `Api` raises."""
    node = api.get_object("v1", "Node", step.name)
    if node is None:
        return None
    uid = node["metadata"].get("uid", "")
    remembered = _remembered(step.name, uid, api)
    patch = _patch(step, node, remembered)
    before, after = _marks(node), _marks(node)
    for key, value in patch.get("metadata", {}).get("labels", {}).items():
        if value is None:
            del after["metadata"]["labels"][key]
        else:
            after["metadata"]["labels"][key] = value
    after["spec"] |= patch.get("spec", {})
    how = " and ".join(word for word, part in (("labelled", "metadata"), ("tainted", "spec")) if part in patch)
    if not how and remembered != frozenset(step.remembered):
        how = "remembered"
        before, after = ({"remembered": sorted(names)} for names in (remembered, step.remembered))
    return Found(how, before, after, patch, remembered, node["metadata"]["resourceVersion"], uid)


def mark(step: NodeMarks, api: Api) -> str | None:
    """Mark the Node, and tell how; None where it is as it should be.

    What is given is remembered before, and what is taken away forgotten after it: a run that is killed in between
    leaves nothing on the Node that the next does not know of. Raises `ApiError`, with status 409 where another writer
    was faster, and what `Api` raises.
    """
    found = find(step, api)
    if found is None:
        raise ApiError(f"there is no Node {step.name}: it has not registered", status=HTTPStatus.NOT_FOUND)
    wanted = frozenset(step.remembered)
    if wanted - found.remembered:
        api.apply(_memory(step.name, found.uid, wanted | found.remembered))
    if found.patch:
        api.merge_patch("v1", "Node", step.name, found.patch, resource_version=found.version)
    if found.remembered - wanted:
        if wanted:
            api.apply(_memory(step.name, found.uid, wanted))
        else:
            api.delete("v1", "ConfigMap", _name(step.name), _NAMESPACE)
    return found.how or None


def _name(node: str) -> str:
    return f"kubestrap-node-{node}"


def _memory(node: str, uid: str, names: Collection[str]) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    metadata = {"name": _name(node), "namespace": _NAMESPACE, "ownerReferences": [owner]}
    data = {_KEY: "".join(f"{name}\n" for name in sorted(names))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _remembered(node: str, uid: str, api: Api) -> frozenset[str]:
    found = api.get_object("v1", "ConfigMap", _name(node), _NAMESPACE)
    if found is None or [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])] != [uid]:
        return frozenset()  # of another Node that had the name, and is about to go
    return frozenset(found.get("data", {}).get(_KEY, "").split())


def _marks(node: Json) -> dict[str, Any]:
    return {
        "metadata": {"labels": dict(node["metadata"].get("labels") or {})},
        "spec": {"taints": node["spec"].get("taints") or []},
    }


def _patch(step: NodeMarks, node: Json, remembered: Collection[str]) -> dict[str, Any]:
    """Give the merge patch that makes `step` true of `node`, empty where it is."""
    has = node["metadata"].get("labels") or {}
    wanted = dict(step.labels)
    labels: dict[str, str | None] = {key: value for key, value in wanted.items() if has.get(key) != value}
    labels |= {key: None for key in sorted(remembered) if key in has and key not in wanted}
    old = node["spec"].get("taints") or []
    taints = _taints(step, old, remembered)
    patch: dict[str, Any] = {"metadata": {"labels": labels}} if labels else {}
    return patch | ({"spec": {"taints": taints}} if taints != old else {})


def _taints(step: NodeMarks, old: list[dict[str, Any]], remembered: Collection[str]) -> list[dict[str, Any]]:
    wanted = {(key, effect): value for key, value, effect in step.taints}
    kept = []
    for taint in old:
        place = (taint["key"], taint["effect"])
        unwanted = place in step.absent_taints or ":".join(place) in remembered
        if unwanted and place not in wanted:
            continue
        value = wanted.pop(place, None)
        kept.append(taint if value in (None, taint.get("value", "")) else {**taint, "value": value})
    new = [
        {"key": key, "effect": effect} | ({"value": value} if value else {}) for (key, effect), value in wanted.items()
    ]
    return kept + new

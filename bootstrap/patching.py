"""Patches of what is written to machines and into the cluster, as kubeadm has them: three kinds, applied to plain data.

A patch is a strategic merge patch (Kubernetes: community, strategic-merge-patch.md), a JSON merge patch (RFC 7386) or
a JSON patch (RFC 6902). Which lists a strategic one merges, and by which key, stands in the tags `patchStrategy` and
`patchMergeKey` of the types in k8s.io/api; those of a Pod and of what holds one are below. A KubeletConfiguration has
none: its lists are replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["strategic", "merge", "json"]
Path = tuple[str | int, ...]
KINDS: tuple[Kind, ...] = ("strategic", "merge", "json")
PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""Targets that are static Pods, by their names."""
KUBELET = "kubeletconfiguration"
COREDNS = "corednsdeployment"
KUBE_PROXY = "kubeproxydaemonset"
TARGETS = (*PODS, KUBELET, COREDNS, KUBE_PROXY)
"""All that can be patched (kubeadm: util/patches, KnownTargets)."""
OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch of a file: what it is for, of which kind, and its data, with the line and column of each value in it.

    Data of the kind `json` are a list of operations, others a mapping. `file` is what messages call the file.
    """

    file: str
    target: str
    kind: Kind
    data: Any
    places: Mapping[Path, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)

    def where(self, path: Path) -> tuple[int, int]:
        """Give line and column of the value at `path`, or of the nearest thing around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of a folder on the operator's machine, in order; none before `inventory.load` has read it."""

    directory: str
    all: tuple[Patch, ...] = ()


class PatchFailed(Exception):
    """A patch does not fit what it is applied to. `path` is where in the patch that is; `what` says why.

    With `depends` it may fit on a machine that was looked at: it is about an entry of a list, or tests a value.
    """

    def __init__(self, path: Path, what: str, *, depends: bool = False) -> None:
        super().__init__(what)
        self.path = path
        self.what = what
        self.depends = depends


@dataclass(frozen=True, slots=True)
class Shape:
    """What a strategic merge knows of a mapping's fields: `fields` that hold mappings or lists which are merged.

    A list is merged by `key`: two entries in which it is equal are one. One of plain values (`key` is empty) is joined.
    """

    fields: Mapping[str, Shape] = field(default_factory=dict)
    is_list: bool = False
    key: str = ""


def _by(key: str, **fields: Shape) -> Shape:
    return Shape(fields, is_list=True, key=key)


_CONTAINERS = _by(
    "name",
    ports=_by("containerPort"),
    env=_by("name"),
    volumeMounts=_by("mountPath"),
    volumeDevices=_by("devicePath"),
)
_METADATA = Shape({"ownerReferences": _by("uid"), "finalizers": Shape(is_list=True)})
_POD_SPEC = Shape(
    {
        "containers": _CONTAINERS,
        "initContainers": _CONTAINERS,
        "ephemeralContainers": _CONTAINERS,
        "volumes": _by("name"),
        "imagePullSecrets": _by("name"),
        "hostAliases": _by("ip"),
        "topologySpreadConstraints": _by("topologyKey"),
        "schedulingGates": _by("name"),
        "resourceClaims": _by("name"),
        "evictionResponders": _by("name"),
    }
)
_POD = Shape({"metadata": _METADATA, "spec": _POD_SPEC})
_WORKLOAD = Shape({"metadata": _METADATA, "spec": Shape({"template": _POD})})
SHAPES: Mapping[str, Shape] = {
    **dict.fromkeys(PODS, _POD),
    KUBELET: Shape(),
    COREDNS: _WORKLOAD,
    KUBE_PROXY: _WORKLOAD,
}
_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def apply(patch: Patch, document: Mapping[str, Any]) -> dict[str, Any]:
    """Give `document` with `patch` applied; neither is changed. Raises `PatchFailed`."""
    from bootstrap.render import merge

    before = copy.deepcopy(dict(document))
    match patch.kind:
        case "strategic":
            return _strategic(before, patch.data, SHAPES[patch.target], ())
        case "merge":
            return copy.deepcopy(merge(before, patch.data))
        case "json":
            after = json_patch(before, patch.data)
            if not isinstance(after, dict):
                raise PatchFailed((), "it leaves no mapping behind")
            return after


# --- strategic merge


def _strategic(base: dict[str, Any], patch: Mapping[str, Any], shape: Shape, path: Path) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: _plain(value, (*path, key)) for key, value in patch.items() if key != _DIRECTIVE}
    if directive is not None:
        raise PatchFailed((*path, _DIRECTIVE), f"{_DIRECTIVE} is replace or delete, not {directive}")
    _retain(base, patch, path)
    _remove_plain(base, patch, path)
    for key, value in patch.items():
        if not key.startswith("$"):
            _field(base, key, value, shape.fields.get(key, Shape()), (*path, key))
        elif not key.startswith((_ORDER, _DELETE)) and key != _RETAIN:
            raise PatchFailed((*path, key), f"there is no directive {key}")
    _put_in_order(base, patch, shape, path)
    return base


def _remove_plain(base: dict[str, Any], patch: Mapping[str, Any], path: Path) -> None:
    for key, value in patch.items():
        name = key.removeprefix(_DELETE)
        if key.startswith(_DELETE) and isinstance(base.get(name), list):
            unwanted = _list(value, (*path, key))
            base[name] = [item for item in base[name] if not _among(item, unwanted)]


def _put_in_order(base: dict[str, Any], patch: Mapping[str, Any], shape: Shape, path: Path) -> None:
    for key, value in patch.items():
        name = key.removeprefix(_ORDER)
        if not key.startswith(_ORDER):
            continue
        inner = shape.fields.get(name, Shape())
        if not inner.is_list:
            raise PatchFailed((*path, key), f"{name} is not a list that is merged")
        if isinstance(base.get(name), list):
            base[name] = _ordered(base[name], _list(value, (*path, key)), base[name], inner.key)


def _field(base: dict[str, Any], key: str, value: Any, shape: Shape, path: Path) -> None:
    there = base.get(key)
    if isinstance(value, Mapping) and isinstance(there, dict):
        base[key] = _strategic(there, value, shape, path)
    elif value is None or (isinstance(value, Mapping) and value.get(_DIRECTIVE) == "delete"):
        base.pop(key, None)
    elif isinstance(value, list) and shape.is_list:
        base[key] = _merged(there if isinstance(there, list) else [], value, shape, path)
    else:
        base[key] = _plain(value, path)


def _merged(base: list[Any], patch: list[Any], shape: Shape, path: Path) -> list[Any]:
    """Merge a list: an entry that is there already is merged into, a new one stands before those that come after."""
    if not shape.key:
        joined: list[Any] = []
        for item in [*base, *(_plain(item, path) for item in patch)]:
            joined += [] if _among(item, joined) else [item]
        return _ordered(joined, patch, base, "")
    if not all(isinstance(there, Mapping) for there in base):
        raise PatchFailed(path, f"{path[-1]} has an entry that is no mapping, from a patch before this one")
    kept = list(base)
    wanted: list[dict[str, Any]] = []
    for index, item in enumerate(patch):
        here = (*path, index)
        if not isinstance(item, Mapping):
            raise PatchFailed(here, f"an entry of {path[-1]} must be a mapping")
        directive = item.get(_DIRECTIVE)
        if directive == "replace":
            kept = []
            continue
        if item.get(shape.key) is None:
            raise PatchFailed(
                here, f"an entry of {path[-1]} must have {shape.key}, by which such entries are told apart"
            )
        if directive == "delete":
            kept = [there for there in kept if not _same(there.get(shape.key), item[shape.key])]
        elif directive is not None:
            raise PatchFailed((*here, _DIRECTIVE), f"{_DIRECTIVE} is replace or delete, not {directive}")
        else:
            wanted.append({**item, "": here})
    order = list(kept)
    for item in wanted:
        here = item.pop("")
        found = next((at for at, there in enumerate(kept) if _same(there.get(shape.key), item[shape.key])), None)
        if found is None:
            kept.append(_strategic({}, item, Shape(shape.fields), here))
        else:
            kept[found] = _strategic(kept[found], item, Shape(shape.fields), here)
    return _ordered(kept, wanted, order, shape.key)


def _ordered(items: list[Any], wanted: Sequence[Any], former: Sequence[Any], key: str) -> list[Any]:
    """Put `items` in order: those among `wanted` in its order, the others between them as they were in `former`."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, Mapping) else item

    def place(item: Any, among: Sequence[Any]) -> int:
        return next((at for at, other in enumerate(among) if _same(name(item), name(other))), -1)

    named = sorted((item for item in items if place(item, wanted) >= 0), key=lambda item: place(item, wanted))
    others = [item for item in items if place(item, wanted) < 0]
    ordered: list[Any] = []
    while named and others:
        first, second = place(others[0], former), place(named[0], former)
        ordered.append((others if 0 <= first < second else named).pop(0))
    return [*ordered, *named, *others]


def _retain(base: dict[str, Any], patch: Mapping[str, Any], path: Path) -> None:
    if _RETAIN not in patch:
        return
    kept = _list(patch[_RETAIN], (*path, _RETAIN))
    for key, value in patch.items():
        if not key.startswith("$") and value is not None and key not in kept:
            raise PatchFailed((*path, key), f"{key} is not among {_RETAIN}")
    for key in [key for key in base if key not in kept]:
        del base[key]


def _plain(value: Any, path: Path) -> Any:
    """Give a value that takes the place of another one: without nulls, and with no directive, which is for merging."""
    if isinstance(value, Mapping):
        if wrong := next((key for key in value if key.startswith("$")), None):
            raise PatchFailed((*path, wrong), f"{wrong} has nothing to work on here: this value is new, or replaced")
        return {key: _plain(inner, (*path, key)) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner, (*path, index)) for index, inner in enumerate(value)]
    return value


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise PatchFailed(path, "a list must stand here")
    return value


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _among(item: Any, items: Sequence[Any]) -> bool:
    return any(_same(item, other) for other in items)


# --- JSON patch


def json_patch(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Give `document`, which may be changed, after `operations` that `operation_mistake` has nothing against.

    Raises `PatchFailed` for the first that does not fit.
    """
    holder = [document]  # so that the whole is somewhere, too
    for index, operation in enumerate(operations):
        path = (index, "path")
        match operation["op"]:
            case "add":
                _add(holder, operation["path"], copy.deepcopy(operation["value"]), path)
            case "remove":
                _remove(holder, operation["path"], path)
            case "replace":
                parent, key = _find(holder, operation["path"], path)
                parent[key] = copy.deepcopy(operation["value"])
            case "move":
                if operation["path"].startswith(f"{operation['from']}/"):
                    raise PatchFailed((index, "from"), "a value cannot be moved into itself")
                _add(holder, operation["path"], _remove(holder, operation["from"], (index, "from")), path)
            case "copy":
                parent, key = _find(holder, operation["from"], (index, "from"))
                _add(holder, operation["path"], copy.deepcopy(parent[key]), path)
            case "test":
                parent, key = _find(holder, operation["path"], path)
                if not equal(parent[key], operation["value"]):
                    what = f"test: {operation['path'] or 'the whole'} has another value"
                    raise PatchFailed((index,), what, depends=True)
    return holder[0]


def operation_mistake(operation: Any) -> tuple[Path, str] | None:
    """Say what is wrong with an operation of a JSON patch in itself, and where in it; None where nothing is."""
    if not isinstance(operation, Mapping):
        return (), "an operation is a mapping with op and path"
    op = operation.get("op")
    if op not in OPERATIONS:
        return ("op",), f"op is one of {', '.join(OPERATIONS)}"
    for key in ("path", "from") if op in {"move", "copy"} else ("path",):
        pointer = operation.get(key)
        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            return (key,), f"{key} is a JSON pointer, as in /spec/hostNetwork"
        if "~" in pointer.replace("~0", "").replace("~1", ""):
            return (key,), f"in the JSON pointer {key}, ~ is followed by 0 (for ~) or 1 (for /)"
    if op in {"add", "replace", "test"} and "value" not in operation:
        return (), f"the operation {op} has no value"
    return None


def tokens(pointer: str) -> list[str]:
    """Give the parts of a JSON pointer (RFC 6901)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def equal(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def _find(holder: list[Any], pointer: str, path: Path) -> tuple[Any, Any]:
    """Give what holds the value at `pointer`, and its key in that."""
    parent, key = _parent(holder, pointer, path)
    if parent is holder:
        return holder, 0
    if isinstance(parent, dict) and key not in parent:
        raise PatchFailed(path, f"there is no {pointer}")
    if isinstance(parent, list):
        return parent, _index(parent, key, pointer, path, len(parent) - 1)
    return parent, key


def _add(holder: list[Any], pointer: str, value: Any, path: Path) -> None:
    parent, key = _parent(holder, pointer, path)
    if not pointer:
        holder[0] = value
    elif isinstance(parent, dict):
        parent[key] = value
    else:
        parent.insert(len(parent) if key == "-" else _index(parent, key, pointer, path, len(parent)), value)


def _remove(holder: list[Any], pointer: str, path: Path) -> Any:
    parent, key = _find(holder, pointer, path)
    if parent is holder:
        raise PatchFailed(path, "the whole cannot be removed")
    return parent.pop(key)


def _parent(holder: list[Any], pointer: str, path: Path) -> tuple[Any, Any]:
    parent: Any = holder
    key: Any = 0
    for token in tokens(pointer):
        if isinstance(parent, list) and parent is not holder:
            key = _index(parent, key, pointer, path, len(parent) - 1)
        elif isinstance(parent, dict) and key not in parent:
            raise PatchFailed(path, f"there is no {pointer}: {key} is missing")
        parent, key = parent[key], token
        if not isinstance(parent, dict | list):
            raise PatchFailed(path, f"there is no {pointer}: what should hold {token} is neither mapping nor list")
    return parent, key


def _index(items: list[Any], number: str, pointer: str, path: Path, last: int) -> int:
    if not (number.isascii() and number.isdigit()) or str(int(number)) != number:
        raise PatchFailed(path, f"there is no {pointer}: {number} is not the number of an entry of a list")
    if int(number) > last:
        raise PatchFailed(path, f"there is no {pointer}: the list has {len(items)} entries", depends=True)
    return int(number)

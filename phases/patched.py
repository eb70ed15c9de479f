"""What the inventory's patches make of what is written, and what no patch may do to it.

Patches are applied where kubeadm applies them (util/staticpod, phases/kubelet, phases/addons), the cluster's before the
host's own. What would take away that by which the rest finds its way (the Pod's name, etcd's data, the folder of
manifests) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bootstrap import patching
from bootstrap.errors import Misfit, PatchesRefused

if TYPE_CHECKING:
    from bootstrap.patching import Patch, Path
    from bootstrap.spec import Cluster, Host

_IDENTITY: tuple[Path, ...] = (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"))
_KUBELET: Mapping[Path, str] = {
    ("apiVersion",): "",
    ("kind",): "",
    ("staticPodPath",): "manifests are written there",
    ("containerRuntimeEndpoint",): "containerd is the runtime that is installed, with this socket",
    ("cgroupDriver",): "it must be containerd's: set kubelet.config.cgroupDriver and cluster.containerd.config",
}
_ETCD_FLAGS: Mapping[str, str] = {
    "name": "members are known by their hosts' names",
    "data-dir": "the data are looked for there: set cluster.etcd.local.dataDir",
    "initial-cluster": "it is what the machines say of who the members are",
    "initial-advertise-peer-urls": "the members are known by these URLs",
}


def patched(document: Mapping[str, Any], target: str, cluster: Cluster, host: Host | None) -> dict[str, Any]:
    """Give `document`, which is what `target` (`patching.TARGETS`) names, with every patch of it.

    Raises `PatchesRefused` with each patch that does not fit, or does what none may.
    """
    made = dict(document)
    misfits: list[Misfit] = []
    for patch in patches(target, cluster, host):
        try:
            after = patching.apply(patch, made)
        except patching.PatchFailed as failed:
            misfits.append(Misfit(patch.file, *patch.where(failed.path), failed.what, depends=failed.depends))
            continue
        found = [
            Misfit(patch.file, *_cause(patch, damage.path), damage.what) for damage in _damage(target, made, after)
        ]
        misfits += found
        made = made if found else after
    if misfits:
        raise PatchesRefused(misfits)
    return _own_container_first(target, made) if target in patching.PODS else made


def patches(target: str, cluster: Cluster, host: Host | None) -> list[Patch]:
    """List the patches of `target`, in the order in which they are applied; of a `host` also its own."""
    folders = [cluster.patches, host.patches if host else None]
    return [patch for folder in folders if folder for patch in folder.all if patch.target == target]


def command_of(pod: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Give the words of the command of container `name` of a Pod, its arguments among them."""
    container = _container(pod.get("spec"), name) or {}
    return tuple(str(word) for key in ("command", "args") for word in container.get(key) or ())


def flags_of(pod: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    """Give the flags of container `name` of a Pod, in order."""
    words = [word for word in command_of(pod, name) if word.startswith("--")]
    return tuple((flag, value) for flag, _, value in (word[2:].partition("=") for word in words))


@dataclass(frozen=True, slots=True)
class _Damage:
    path: Path
    what: str


def _damage(target: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[_Damage]:
    if target == patching.KUBELET:
        for path, why in _KUBELET.items():
            yield from _changed(before, after, path, why)
        return
    for path in _IDENTITY:
        yield from _changed(before, after, path, "it would be another object")
    spec: Path = ("spec",)
    if target in patching.PODS:
        name, pod = target, after
        yield from _changed(before, after, ("spec", "hostNetwork"), "the control plane is on the machine's own network")
    else:
        name, pod = str(before["metadata"]["name"]), _at(after, ("spec", "template")) or {}
        spec = ("spec", "template", "spec")
        yield from _changed(before, after, ("spec", "selector"), "it cannot be changed in a cluster")
    if not isinstance(pod, Mapping) or _container(pod.get("spec"), name) is None:
        yield _Damage((*spec, "containers"), f"it leaves no container {name}: what is patched would not run")
    elif not _is_command(_container(pod["spec"], name) or {}):
        yield _Damage((*spec, "containers"), f"it leaves the container {name} no command that is a list of text")
    elif target == "etcd":
        yield from _etcd_damage(before, after)


def _etcd_damage(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[_Damage]:
    containers: Path = ("spec", "containers")
    had, has = (dict(flags_of(pod, "etcd")) for pod in (before, after))
    for flag, why in _ETCD_FLAGS.items():
        if had.get(flag) != has.get(flag):
            yield _Damage(containers, f"it changes etcd's --{flag}: {why}")
    if _volume(before, "etcd-data") != _volume(after, "etcd-data"):
        yield _Damage(("spec", "volumes"), f"it changes etcd's volume etcd-data: {_ETCD_FLAGS['data-dir']}")


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], path: Path, why: str) -> Iterator[_Damage]:
    if not patching.equal(_at(before, path), _at(after, path)):
        name = ".".join(map(str, path))
        yield _Damage(path, f"it changes {name}{why and ': '}{why}")


def _at(document: Any, path: Path) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _container(spec: Any, name: str) -> Mapping[str, Any] | None:
    containers = _at(spec, ("containers",))
    found = containers if isinstance(containers, list) else []
    return next((each for each in found if isinstance(each, Mapping) and each.get("name") == name), None)


def _is_command(container: Mapping[str, Any]) -> bool:
    words = [container.get(key) for key in ("command", "args") if container.get(key) is not None]
    return all(isinstance(part, list) and all(isinstance(word, str) for word in part) for part in words)


def _volume(pod: Mapping[str, Any], name: str) -> Any:
    volumes = _at(pod, ("spec", "volumes"))
    found = volumes if isinstance(volumes, list) else []
    return next((each for each in found if isinstance(each, Mapping) and each.get("name") == name), None)


def _cause(patch: Patch, path: Path) -> tuple[int, int]:
    """Give where in `patch` it is said that the value at `path` changes, as nearly as can be told."""
    if patch.kind != "json":
        return patch.where(path)
    for index, operation in reversed(list(enumerate(patch.data))):
        for key in ("path", "from"):
            pointed = tuple(patching.tokens(operation.get(key, "/ ")))
            if pointed == path[: len(pointed)] or path == pointed[: len(path)]:
                return patch.where((index, key))
    return patch.where(())


def _own_container_first(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    # A strategic merge puts a new container before those that are there.
    containers: Sequence[Any] = pod["spec"]["containers"]
    ordered = sorted(containers, key=lambda container: container.get("name") != name)
    return {**pod, "spec": {**pod["spec"], "containers": ordered}}

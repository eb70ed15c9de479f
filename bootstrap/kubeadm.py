"""kubeadm's configuration (v1beta4) as a part of an inventory: `cluster.kubeadm` names a file of it, or holds it.

What its documents say is put where the inventory has it, with its own place and name in messages, before anything
is checked; so every check of the inventory is one of theirs, too. Each field that kubeadm has is in the tables below:
it is a setting of ours, or has one value that we can do, or is refused. None is passed over.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap import paths, yamlfile
from bootstrap.values import ProblemId, described, shown
from bootstrap.yamlfile import Document, Finding, Path, Place

GROUP = "kubeadm.k8s.io"
VERSION = f"{GROUP}/v1beta4"
_OLDER = re.compile(r"kubeadm\.k8s\.io/v1(alpha[0-9]+|beta[1-3])")
_KEY = ("cluster", "kubeadm")


@dataclass(frozen=True, slots=True)
class _To:
    """A field that is a setting of ours, at a path that begins with `cluster` or, for one machine, with `host`."""

    path: Path


@dataclass(frozen=True, slots=True)
class _Only:
    """A field in which we can do nothing but these values."""

    values: tuple[object, ...]
    why: str


@dataclass(frozen=True, slots=True)
class _Not:
    """A field that we cannot do."""

    why: str
    fix: str = "remove it"


@dataclass(frozen=True, slots=True)
class _By:
    """A field that takes thought; `words` tell what becomes of it."""

    set: Callable[[_Merge, _Part, Path, Any], object]
    words: str


_Rule = _To | _Only | _Not | _By


@dataclass(frozen=True, slots=True)
class _Part:
    """One document of kubeadm's, in a file of its own or inside the inventory (then `file` is empty)."""

    data: Mapping[str, Any]
    document: Document
    base: Path = ()
    file: str = ""

    def place(self, path: Path) -> Place:
        """Give where a value stands."""
        return dataclasses.replace(self.document.place((*self.base, *path)), file=self.file)

    def key_place(self, path: Path) -> Place:
        """Give where a key stands."""
        place = self.document.keys.get((*self.base, *path))
        return dataclasses.replace(place, file=self.file) if place else self.place(path)

    def name(self, path: Path) -> Path:
        """Give the words by which messages call a field."""
        kind = self.data.get("kind")
        return (*self.base, *path) if self.base else (kind if isinstance(kind, str) else "?", *path)


def merge(document: Document, read: Callable[[str], tuple[str, bytes]]) -> None:
    """Put what `cluster.kubeadm` says into the data of an inventory; what is wrong with it joins its findings.

    `read` gives a file's name for messages, and its bytes, or raises `OSError`.
    """
    cluster = document.data.get("cluster") if isinstance(document.data, dict) else None
    if isinstance(cluster, dict) and "kubeadm" in cluster:
        given = cluster.pop("kubeadm")
        found = list(_parts(document, given, read))
        parts = [part for part in found if isinstance(part, _Part)]
        document.findings.extend(part for part in found if isinstance(part, Finding))
        _Merge(document).all(parts)


def fields() -> Iterator[tuple[str, str, str]]:
    """List every field of kubeadm's that is read or refused: its document, its name, what becomes of it."""
    for kind, rules in _RULES.items():
        for name, rule in rules.items():
            yield kind, name, _told(rule)


@dataclass(frozen=True, slots=True)
class Placed:
    """A value of a document of kubeadm's, where it differs from what nobody set: its dotted name there.

    `path` is that of our setting, beginning with `cluster` or `host`; it is empty where there is none: `why` tells.
    """

    name: str
    value: Any
    path: Path = ()
    why: str = ""


def placed(kind: str, given: Mapping[str, Any]) -> Iterator[Placed]:
    """Find the places of all values of a document of `kind` that stands in a cluster, as kubeadm wrote it there.

    Go's empty values are passed over, and so are values that are the only ones here, too. What takes thought
    (kubernetesVersion, controlPlaneEndpoint) has no place, and is its caller's to take out before.
    """
    yield from _placed(_RULES[kind], (), given)


def _placed(rules: Mapping[str, _Rule], path: Path, given: Mapping[str, Any]) -> Iterator[Placed]:
    for key, value in given.items():
        here = (*path, key)
        dotted = ".".join(map(str, here))
        if value in (None, "", {}, [], False) or here in {("apiVersion",), ("kind",)}:
            continue
        match rules.get(dotted):
            case _To(path=target):
                yield Placed(dotted, value, target)
            case _Only(values=values, why=why):
                if value not in values:
                    yield Placed(dotted, value, (), why)
            case _Not(why=why):
                yield Placed(dotted, value, (), why)
            case None if isinstance(value, dict) and any(name.startswith(f"{dotted}.") for name in rules):
                yield from _placed(rules, here, value)
            case _:
                yield Placed(dotted, value, (), f"{VERSION} has no such field that is known here")


def _told(rule: _Rule) -> str:
    match rule:
        case _To(path=path):
            dotted = ".".join(map(str, path[1:]))
            return f"`cluster.{dotted}`" if path[0] == "cluster" else f"the host's `{dotted}`"
        case _Only(values=values, why=why):
            return f"only {' or '.join(f'`{json.dumps(value)}`' for value in values)}: {why}".replace('"', "")
        case _Not(why=why, fix=fix):
            return f"refused: {why}; {fix}"
        case _By(words=words):
            return words


def _parts(document: Document, given: object, read: Callable[[str], tuple[str, bytes]]) -> Iterator[_Part | Finding]:
    place = document.place(_KEY)
    if isinstance(given, str) and given:
        yield from _file(place, given, read)
    elif isinstance(given, dict):
        yield _Part(given, document, _KEY)
    elif isinstance(given, list) and given:
        for index, item in enumerate(given):
            if isinstance(item, dict):
                yield _Part(item, document, (*_KEY, index))
            else:
                path = (*_KEY, index)
                yield _wrong_type(document.place(path), path, item, "a mapping", "write one document here")
    elif given is None:
        why = "a key with nothing after it is null"
        yield Finding("inventory-empty-value", place, _KEY, "there is no value", why, "write one, or remove the line")
    else:
        fix = "name a file of kubeadm's documents, or write them here"
        yield _wrong_type(place, _KEY, given, "a file name or a list of documents", fix)


def _file(place: Place, given: str, read: Callable[[str], tuple[str, bytes]]) -> Iterator[_Part | Finding]:
    try:
        name, source = read(given)
    except (OSError, RuntimeError) as error:
        what = f"{shown(given)} cannot be read: {getattr(error, 'strerror', None) or error}"
        why = "it is looked for from the inventory's folder"
        fix = "correct the name, or write the documents here"
        yield Finding("inventory-kubeadm-unreadable", place, _KEY, what, why, fix)
        return
    documents = yamlfile.read_stream(source)
    if not documents:
        here = Place(1, 1, name)
        fix = "write ClusterConfiguration, InitConfiguration or others, or name another file"
        yield Finding("inventory-kubeadm-document", here, (), "the file is empty", "cluster.kubeadm names it", fix)
    for document in documents:
        for finding in document.findings:
            yield dataclasses.replace(finding, place=dataclasses.replace(finding.place, file=name))
        if isinstance(document.data, dict):
            yield _Part(document.data, document, file=name)
        elif not document.findings:
            here = dataclasses.replace(document.place(()), file=name)
            yield _wrong_type(here, (), document.data, "a mapping", "write one of kubeadm's documents")


def _wrong_type(place: Place, path: Path, value: object, needed: str, fix: str) -> Finding:
    return Finding("inventory-wrong-type", place, path, f"{described(value)} stands here", f"{needed} is needed", fix)


class _Merge:
    """Puts documents into one inventory."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
        hosts = self.data.get("hosts")
        self.hosts: list[tuple[int, Any]] = [
            (index, host)
            for index, host in enumerate(hosts if isinstance(hosts, list) else ())
            if isinstance(host, dict)
        ]
        self.about: list[int] | None = None
        self.first: dict[str, Place] = {}

    def all(self, parts: Sequence[_Part]) -> None:
        """Put in every document, those about the cluster first."""
        known = [part for part in parts if self._known(part)]
        order = list(_DOCUMENTS)
        for part in sorted(known, key=lambda part: order.index(_head(part))):
            if _head(part) in _CONFIGS:
                settings = {key: value for key, value in part.data.items() if key not in {"apiVersion", "kind"}}
                self.put(_CONFIGS[_head(part)], settings, part, ())
            else:
                self.about = None
                self._walk(part, (), part.data, _RULES[part.data["kind"]])

    def _known(self, part: _Part) -> bool:
        """Whether this is a document that we read, the first of its kind."""
        version, kind = part.data.get("apiVersion"), part.data.get("kind")
        place = part.place(("apiVersion",) if version is not None else ())
        name = part.name(()) if part.base else ()
        reads = "read are those that kubeadm init and kubeadm join read"
        if not isinstance(version, str) or not isinstance(kind, str):
            fix = f"begin with apiVersion: {VERSION} and kind: ClusterConfiguration, or what it is"
            self.add("document", place, name, "apiVersion or kind is missing", "they tell what a document is", fix)
        elif _OLDER.fullmatch(version):
            why = "kubeadm of Kubernetes 1.37 reads it no more, and neither does this program"
            fix = (
                "kubeadm config migrate --old-config FILE --new-config NEW, with a kubeadm of 1.31 to 1.36, writes it "
                f"as {VERSION}"
            )
            self.add("version", place, name, f"{shown(version)} is too old", why, fix)
        elif version.startswith(f"{GROUP}/") and version != VERSION:
            self.add("version", place, name, f"{shown(version)} is not read", f"{VERSION} is", f"write it as {VERSION}")
        elif (version, kind) not in _DOCUMENTS:
            what = f"a document of {version}, {kind}, is not used"
            self.add("document", part.place(("kind",)), name, what, reads, "remove the document")
        elif kind in self.first:
            why = f"the first one begins in line {self.first[kind].line}"
            self.add("document", part.place(("kind",)), name, f"a second {kind} stands here", why, "join the two")
        else:
            self.first[kind] = part.place(())
            return True
        return False

    def add(self, kind: str, place: Place, path: Path, what: str, why: str, fix: str) -> None:
        """Add a finding."""
        self.document.findings.append(Finding(_IDS[kind], place, path, what, why, fix))

    def _walk(self, part: _Part, path: Path, value: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
        for key, inner in value.items():
            here = (*path, key)
            if inner is None or here in {("apiVersion",), ("kind",)}:
                continue
            dotted = ".".join(map(str, here))
            rule = rules.get(dotted)
            below = [name for name in rules if name.startswith(f"{dotted}.")]
            if rule is not None:
                self._apply(part, here, inner, rule)
            elif not below:
                self._unknown(part, here, rules)
            elif isinstance(inner, dict):
                self._walk(part, here, inner, rules)
            else:
                fix = "write keys and values"
                self.document.findings.append(_wrong_type(part.place(here), part.name(here), inner, "a mapping", fix))

    def _unknown(self, part: _Part, path: Path, rules: Mapping[str, _Rule]) -> None:
        depth = len(path) - 1
        parents = [tuple(name.split(".")) for name in rules]
        here = {name[depth] for name in parents if name[:depth] == path[:-1] and len(name) > depth}
        near = difflib.get_close_matches(str(path[-1]), here, n=1, cutoff=0.6)
        fix = f"did you mean {shown(near[0])}?" if near else "remove it"
        what = f"unknown key {shown(path[-1])}"
        why = f"{VERSION} has no such field here"
        self.document.findings.append(
            Finding("inventory-unknown-key", part.key_place(path), part.name(path), what, why, fix)
        )

    def _apply(self, part: _Part, path: Path, value: Any, rule: _Rule) -> None:
        match rule:
            case _To(path=("cluster", *_)):
                self.put(rule.path, value, part, path)
            case _To(path=(_, *rest)):
                for index in self.machines(part):
                    self.put(("hosts", index, *rest), value, part, path)
            case _Only(values=values, why=why):
                if value not in values:
                    said = described(value).removeprefix("the text ")
                    fits = " or ".join(
                        str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in values[:2]
                    )
                    fix = f"write {fits}, or remove it" if values != ({},) else "remove it"
                    self.add("unsupported", part.place(path), part.name(path), f"{said} is not supported", why, fix)
            case _Not(why=why, fix=fix):
                self.add("unsupported", part.key_place(path), part.name(path), "this field is not supported", why, fix)
            case _By():
                rule.set(self, part, path, value)

    def machines(self, part: _Part) -> list[int]:
        """Give the hosts that a document is about, by their indexes; where that is unclear, it is told once."""
        if self.about is None:
            self.about = self._machines(part)
        return self.about

    def _machines(self, part: _Part) -> list[int]:
        registration = part.data.get("nodeRegistration")
        name = registration.get("name") if isinstance(registration, dict) else None
        path: Path = ("nodeRegistration", "name")
        names = ", ".join(str(host.get("name")) for _, host in self.hosts)
        if name is not None:
            found = [index for index, host in self.hosts if host.get("name") == name]
            if not found:
                fix = f"write one of these: {names}"
                why = "this is about one machine of the inventory, by its name"
                self.add("host", part.place(path), part.name(path), f"no host is named {shown(name)}", why, fix)
            return found
        control_planes = [index for index, host in self.hosts if _is_control_plane(host)]
        if part.data["kind"] == "JoinConfiguration":
            found = [index for index, _ in self.hosts if index not in control_planes]
            unclear = bool(part.data.get("controlPlane")) or not found
        else:
            found = control_planes
            unclear = len(found) != 1
        if unclear:
            what = "it is not clear which host this is about"
            why = "unnamed, InitConfiguration is about the only control-plane host, JoinConfiguration about all others"
            fix = f"add nodeRegistration.name, one of these: {names}"
            self.add("host", part.place(()), part.name(()), what, why, fix)
            return []
        return found

    def put(self, target: Path, value: Any, part: _Part, source: Path, *, derived: bool = False) -> None:
        """Set one of our settings to what stands at `source`; `derived` from it, where it is not the value itself."""
        holder: Any = self.data
        for key in target[:-1]:
            holder = holder[int(key)] if isinstance(holder, list) else holder.setdefault(key, {})
            if not isinstance(holder, dict | list):
                return  # a mistake that is told elsewhere
        key = target[-1]
        if key not in holder:
            holder[key] = value
            self._remember(target, value, part, source, derived=derived)
        elif isinstance(holder[key], dict) and isinstance(value, dict):
            for name, inner in value.items():
                self.put((*target, name), inner, part, source if derived else (*source, name), derived=derived)
        elif target not in self.document.names or holder[key] != value:
            first = self.document.place(target)
            other = f"{first.file or 'the inventory'}, line {first.line}"
            what = "this is given twice"
            why = f"it stands in {other}, too, and one would be lost"
            self.add("twice", part.key_place(source), part.name(source), what, why, "remove one of them")

    def _remember(self, target: Path, value: Any, part: _Part, source: Path, *, derived: bool) -> None:
        document = self.document
        document.keys[target] = part.key_place(source)
        document.values[target] = part.place(source)
        document.names[target] = part.name(source)
        text = part.document.texts.get((*part.base, *source))
        if text is not None:
            document.texts[target] = text
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in inner:
            self._remember((*target, key), item, part, source if derived else (*source, key), derived=derived)


def _is_control_plane(host: Mapping[str, Any]) -> bool:
    roles = host.get("roles")
    return isinstance(roles, list) and "control-plane" in roles


def _head(part: _Part) -> tuple[str, str]:
    return part.data["apiVersion"], part.data["kind"]


def _version(merge: _Merge, part: _Part, path: Path, value: Any) -> None:
    bare = value.removeprefix("v") if isinstance(value, str) and re.fullmatch(r"v[0-9].*", value) else value
    merge.put(("cluster", "kubernetesVersion"), bare, part, path)


def _endpoint(merge: _Merge, part: _Part, path: Path, value: Any) -> None:
    """Take the name for one that leads to the API server already, unless the inventory tells of another way."""
    matched = re.fullmatch(r"(\[[^]]*\]|[^:]*):([0-9]{1,5})", value) if isinstance(value, str) else None
    said: dict[str, Any] = {"name": matched[1].strip("[]"), "port": int(matched[2])} if matched else {"name": value}
    if "endpoint" not in merge.data["cluster"]:
        said = {"kind": "external", **said}
    merge.put(("cluster", "endpoint"), said, part, path, derived=True)


def _bind_port(merge: _Merge, part: _Part, path: Path, value: Any) -> None:
    endpoint = merge.data["cluster"].get("endpoint", {"kind": "local-proxy"})
    if not isinstance(endpoint, dict):
        return
    if endpoint.get("kind") == "local-proxy":
        if value != endpoint.get("port", 6443):
            said = {"kind": "local-proxy"} if "endpoint" not in merge.data["cluster"] else {}
            merge.put(("cluster", "endpoint"), {**said, "port": value}, part, path, derived=True)
    elif value != 6443:
        why = "behind an endpoint of its own, the API server listens on 6443"
        merge.add("unsupported", part.place(path), part.name(path), f"{value} is not supported", why, "remove it")


def _same(prefix: str, *names: str) -> dict[str, _Rule]:
    """Give the rules of fields that stand in our `cluster` under the same names."""
    return {f"{prefix}{name}": _To(("cluster", *f"{prefix}{name}".split("."))) for name in names}


_COMPONENT = ("extraArgs", "extraEnvs", "extraVolumes")
_NO_IMAGE = _Not("images are those of the bundle", "remove it; docs/bundle.md tells what a bundle holds")
_NO_KEY = _Not("certificates go to control-plane hosts over SSH, and are never kept in the cluster")
_NO_DISCOVERY = _Not(
    "hosts of an inventory join its own cluster by a token of the run",
    "remove discovery; the cluster of others is joined by kubestrap join --server, --ca-cert-hash and --token-file",
)
RUNTIMES = (paths.CONTAINERD_SOCKET, "unix:///var/run/containerd/containerd.sock", "/run/containerd/containerd.sock")
_BIND_PORT = _By(_bind_port, "`cluster.endpoint.port` with kind local-proxy; else only `6443`")
_COMMON: dict[str, _Rule] = {
    "dryRun": _Only((False,), "whether machines are changed is told by the command: kubestrap diff changes nothing"),
    "nodeRegistration.name": _By(
        lambda merge, part, _, __: merge.machines(part), "the host that the document is about"
    ),
    "nodeRegistration.criSocket": _Only(RUNTIMES, "containerd is the runtime that is installed, with this socket"),
    "nodeRegistration.taints": _To(("host", "taints")),
    "nodeRegistration.kubeletExtraArgs": _To(("host", "kubelet", "extraArgs")),
    "nodeRegistration.ignorePreflightErrors": _To(("cluster", "ignorePreflightErrors")),
    "nodeRegistration.imagePullPolicy": _Only(("IfNotPresent", "Never"), "images are brought, and never pulled"),
    "nodeRegistration.imagePullSerial": _Only((True,), "images are brought, and never pulled"),
    "skipPhases": _Not("phases are left out by the command", "remove it, and give --skip-phases"),
    "patches.directory": _To(("host", "patches")),
    "timeouts.upgradeManifests": _Only(("5m0s", "5m"), "it cannot be changed"),
    **_same("timeouts.", "controlPlaneComponentHealthCheck", "kubeletHealthCheck", "kubernetesAPICall"),
    **_same("timeouts.", "tlsBootstrap", "discovery", "etcdAPICall"),
}
_RULES: Mapping[str, Mapping[str, _Rule]] = {
    "ClusterConfiguration": {
        **_same("networking.", "serviceSubnet", "podSubnet", "dnsDomain"),
        **_same("apiServer.", *_COMPONENT, "certSANs"),
        **_same("controllerManager.", *_COMPONENT),
        **_same("scheduler.", *_COMPONENT),
        **_same("etcd.local.", "dataDir", "extraArgs", "extraEnvs", "serverCertSANs", "peerCertSANs"),
        **_same("", "encryptionAlgorithm", "certificateValidityPeriod", "caCertificateValidityPeriod"),
        "clusterName": _To(("cluster", "name")),
        "kubernetesVersion": _By(_version, "`cluster.kubernetesVersion`, with or without the v"),
        "controlPlaneEndpoint": _By(
            _endpoint, "`cluster.endpoint`, of kind external unless the inventory gives a kind"
        ),
        "dns.disabled": _To(("cluster", "addons", "coredns", "disabled")),
        "proxy.disabled": _To(("cluster", "kubeProxy", "disabled")),
        "certificatesDir": _Only((paths.PKI,), f"certificates are always in {paths.PKI}"),
        "imageRepository": _Only(("registry.k8s.io",), "images are those of the bundle, and named so"),
        "featureGates": _Only(({},), "there are none here; kubeadm's own change how kubeadm works"),
        "etcd.local.imageRepository": _NO_IMAGE,
        "etcd.local.imageTag": _NO_IMAGE,
        "dns.imageRepository": _NO_IMAGE,
        "dns.imageTag": _NO_IMAGE,
        **_same("etcd.external.", "endpoints", "caFile", "certFile", "keyFile"),
        "etcd.external.httpEndpoints": _Not("health and metrics are asked for at the endpoints"),
    },
    "InitConfiguration": {
        **_COMMON,
        "bootstrapTokens": _Not(
            "a token is made for each run and deleted after it; one in a file is a secret that others read",
            "remove it; kubestrap token create makes one that stays",
        ),
        "localAPIEndpoint.advertiseAddress": _To(("host", "nodeAddress")),
        "localAPIEndpoint.bindPort": _BIND_PORT,
        "certificateKey": _NO_KEY,
    },
    "JoinConfiguration": {
        **_COMMON,
        "caCertPath": _Only((f"{paths.PKI}/ca.crt",), f"the CA is always in {paths.PKI}/ca.crt"),
        "discovery": _NO_DISCOVERY,
        "controlPlane.localAPIEndpoint.advertiseAddress": _To(("host", "nodeAddress")),
        "controlPlane.localAPIEndpoint.bindPort": _BIND_PORT,
        "controlPlane.certificateKey": _NO_KEY,
    },
}
_CONFIGS: Mapping[tuple[str, str], Path] = {
    ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"): ("cluster", "kubelet", "config"),
    ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"): ("cluster", "kubeProxy", "config"),
}
_DOCUMENTS = (*((VERSION, kind) for kind in _RULES), *_CONFIGS)
_IDS: Mapping[str, ProblemId] = {
    "document": "inventory-kubeadm-document",
    "host": "inventory-kubeadm-host",
    "twice": "inventory-kubeadm-twice",
    "unsupported": "inventory-kubeadm-unsupported",
    "version": "inventory-kubeadm-version",
}

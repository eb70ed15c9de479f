"""What was written on a machine and into a cluster, taken apart into fields that can be compared one by one."""

from __future__ import annotations

import base64
import io
import re
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootstrap import paths

Thing = Mapping[str, Any]
Fields = dict[str, str]
Written = dict[str, Fields]
"""The fields of each file and object, by what it is called."""

FOLDERS = (paths.KUBERNETES, paths.KUBELET, "/var/lib/etcd")
"""Where all that kubeadm writes on a machine is."""

RUNNING = (
    *(f"{paths.KUBELET}/{name}/*" for name in ("checkpoints", "device-plugins", "plugins", "plugins_registry")),
    *(f"{paths.KUBELET}/{name}/*" for name in ("pod-resources", "pods", "usernamespaces")),
    "/var/lib/etcd/*",
)
"""What the kubelet and etcd make as they go, whoever set them up."""

_DATE = re.compile(r"-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\.pem$")
_YAML = ("ClusterConfiguration", "kubelet", "config.conf", "kubeconfig.conf", "kubeconfig")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
_SERVERS_OWN = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
# Written by controllers, who count.
_COUNTERS = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")


@dataclass(frozen=True)
class Entry:
    """A file or folder: its mode as `ls` shows it, the numbers of its owner and group, and what a file holds."""

    mode: str
    owner: str
    data: bytes = b""


def archived(archive: bytes) -> dict[str, Entry]:
    """Read what a tar archive of `/` has in it."""
    kinds = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.REGTYPE: stat.S_IFREG, tarfile.SYMTYPE: stat.S_IFLNK}
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            mode = stat.filemode(kinds[member.type] | member.mode)
            found[f"/{member.name}"] = Entry(mode, f"{member.uid} {member.gid}", file.read() if file else b"")
    return found


def machine(found: Mapping[str, Entry], address: str) -> Written:
    """Take the files of a control-plane host apart. Its own `address` is called ADDRESS."""
    written = {}
    for path, entry in found.items():
        fields = {"mode": entry.mode, "owner": entry.owner, **dict(_contents(path, found))}
        name = _DATE.sub("-DATE.pem", path)
        written[name] = {field: value.replace(address, "ADDRESS") for field, value in fields.items()}
    return written


def cluster(objects: Iterable[Thing], address: str) -> Written:
    """Take objects apart. The control-plane host's `address` is called ADDRESS."""
    written = {}
    for each in objects:
        metadata = each["metadata"]
        namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
        fields = dict(_object(each))
        written[f"{each['kind']} {namespace}{metadata['name']}"] = {
            field: value.replace(address, "ADDRESS") for field, value in fields.items()
        }
    return written


def differences(ours: Written, theirs: Written) -> dict[str, str]:
    """Tell every place where two are not the same, and how: `THING` where one has no such, else `THING: FIELD`."""
    found = {}
    for thing in sorted(ours.keys() | theirs.keys()):
        if thing not in ours or thing not in theirs:
            found[thing] = "only ours" if thing in ours else "only kubeadm's"
            continue
        mine, other = ours[thing], theirs[thing]
        for field in sorted(mine.keys() | other.keys()):
            if mine.get(field) != other.get(field):
                found[f"{thing}: {field}"] = f"ours {mine.get(field)!r}, kubeadm's {other.get(field)!r}"
    return found


def _contents(path: str, found: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    data = found[path].data
    if not data or path.startswith(f"{paths.KUBELET}/pki/"):
        return
    if path.endswith(".crt"):
        yield from _certificate(data, _signers(found))
    elif path.endswith(".key"):
        yield from _key(data, found[path.removesuffix(".key") + (".pub" if path.endswith("/sa.key") else ".crt")].data)
    elif path.endswith(".pub"):
        yield "begins", data.decode().splitlines()[0]
    elif path.endswith(".conf"):
        yield from _kubeconfig(yaml.safe_load(data), found)
    elif path.endswith(".env"):
        variable, _, value = data.decode().partition("=")
        yield "variable", variable
        yield from _flags(value.strip().strip('"').split())
    elif path.startswith(f"{paths.MANIFESTS}/"):
        yield from _pod(yaml.safe_load(data))
    elif path.endswith(".yaml"):
        yield from _flat("", yaml.safe_load(data))


def _signers(found: Mapping[str, Entry]) -> dict[str, bytes]:
    return {path: entry.data for path, entry in found.items() if path.endswith("ca.crt")}


def _certificate(pem: bytes, signers: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    one = x509.load_pem_x509_certificate(pem)
    yield "subject", one.subject.rfc4514_string()
    yield "issuer", one.issuer.rfc4514_string()
    yield "signed by", ", ".join(sorted(path for path, ca in signers.items() if _signed(one, ca)))
    yield "version", one.version.name
    yield "key", _kind(one.public_key())
    yield "signature", one.signature_algorithm_oid.dotted_string
    # To the minute: kubeadm takes the time twice.
    lasts = one.not_valid_after_utc - one.not_valid_before_utc
    yield "valid for", f"{round(lasts.total_seconds() / 60)} minutes"
    for extension in one.extensions:
        value = extension.value
        name = type(value).__name__
        yield f"{name} critical", str(extension.critical)
        match value:
            case x509.SubjectAlternativeName():
                yield name, ", ".join(f"{type(each).__name__}:{each.value}" for each in value)
            case x509.KeyUsage():
                yield name, ", ".join(usage for usage in _USAGES if getattr(value, usage))
            case x509.ExtendedKeyUsage():
                yield name, ", ".join(usage.dotted_string for usage in value)
            case x509.BasicConstraints():
                yield name, f"ca {value.ca}, path length {value.path_length}"
            case x509.AuthorityKeyIdentifier():
                yield name, f"of {', '.join(path for path, ca in signers.items() if _identifier(ca) == value)}"
            case x509.SubjectKeyIdentifier():
                # How it is made of the key is left to whoever makes it (RFC 5280, 4.2.1.2).
                yield name, f"{len(value.digest)} bytes"
            case _:
                yield name, "there"


def _signed(one: x509.Certificate, ca: bytes) -> bool:
    try:
        one.verify_directly_issued_by(x509.load_pem_x509_certificate(ca))
    except Exception:  # noqa: BLE001 - any reason will do
        return False
    return True


def _identifier(ca: bytes) -> x509.AuthorityKeyIdentifier:
    extensions = x509.load_pem_x509_certificate(ca).extensions
    identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _kind(key: object) -> str:
    match key:
        case rsa.RSAPublicKey() | rsa.RSAPrivateKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() | ec.EllipticCurvePrivateKey():
            return key.curve.name
        case _:
            return type(key).__name__


def _key(pem: bytes, other_half: bytes) -> Iterator[tuple[str, str]]:
    key = serialization.load_pem_private_key(pem, password=None)
    public = (
        x509.load_pem_x509_certificate(other_half).public_key()
        if b"BEGIN CERTIFICATE" in other_half
        else serialization.load_pem_public_key(other_half)
    )
    yield "begins", pem.decode().splitlines()[0]
    yield "key", _kind(key)
    yield "belongs to its certificate or public key", str(key.public_key() == public)


def _kubeconfig(config: Thing, found: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    signers = _signers(found)
    for field, value in _flat("", config):
        kind = field.rpartition(".")[2]
        if kind == "certificate-authority-data":
            yield field, ", ".join(path for path, data in signers.items() if data == base64.b64decode(value))
        elif kind == "client-certificate-data":
            for part, described in _certificate(base64.b64decode(value), signers):
                yield f"{field}, {part}", described
        elif kind == "client-key-data":
            certificate = next(user["user"] for user in config["users"])["client-certificate-data"]
            for part, described in _key(base64.b64decode(value), base64.b64decode(certificate)):
                yield f"{field}, {part}", described
        else:
            yield field, value


def _pod(pod: Thing) -> Iterator[tuple[str, str]]:
    containers = pod["spec"]["containers"]
    (container,) = containers if len(containers) == 1 else [each for each in containers if "command" in each]
    program, *arguments = container.pop("command")
    yield "program", program
    yield from _flags(arguments)
    yield from _flat("", pod)


def _flags(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    values: dict[str, list[str]] = {}
    order = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        values.setdefault(name, []).append(value)
        order.append(name)
    yield "order of flags", " ".join(order)
    for name, given in values.items():
        yield f"flag {name}", " and ".join(given)


def _object(one: Thing) -> Iterator[tuple[str, str]]:
    metadata = {key: value for key, value in one["metadata"].items() if key not in _SERVERS_OWN}
    notes = {key: value for key, value in metadata.pop("annotations", {}).items() if key not in _COUNTERS}
    rest = {key: value for key, value in one.items() if key not in ("metadata", "status")}
    match one["kind"]:
        case "Node":
            yield from _node(metadata, notes, one["spec"])
            return
        case "Secret":
            rest = {"type": one["type"], "data": sorted(one["data"])}
        case "ConfigMap":
            data = {key: _parsed(key, text) for key, text in one["data"].items()}
            rest = {**rest, "data": data}
        case "RoleBinding" | "ClusterRoleBinding":
            # What the API server puts in.
            subjects = [{**({} if "namespace" in to else _RBAC), **to} for to in one["subjects"]]
            rest = {**rest, "subjects": sorted(subjects, key=lambda to: str(to["name"]))}
    yield from _flat("metadata", metadata)
    for key, value in notes.items():
        yield f"annotation {key}", value
    yield from _flat("", rest)


_RBAC = {"apiGroup": "rbac.authorization.k8s.io"}


def _node(metadata: Thing, notes: Thing, spec: Thing) -> Iterator[tuple[str, str]]:
    for key, value in metadata.get("labels", {}).items():
        yield f"label {key}", value
    for key, value in notes.items():
        yield f"annotation {key}", value
    for taint in spec.get("taints", ()):
        # Those of this group come and go with the node's health.
        if not taint["key"].startswith("node.kubernetes.io/"):
            yield f"taint {taint['key']}:{taint['effect']}", str(taint.get("value", ""))


def _parsed(key: str, text: str) -> Any:
    if key not in _YAML:
        return text
    config = yaml.safe_load(text)
    for each in config.get("clusters") or () if isinstance(config, dict) else ():
        # The CA differs from cluster to cluster.
        each["cluster"].update(dict.fromkeys({"certificate-authority-data"} & each["cluster"].keys(), "the CA"))
    return config


def _flat(where: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict() if value:
            for key, inner in value.items():
                yield from _flat(f"{where}.{key}" if where else str(key), inner)
        case list() if value and all(isinstance(inner, dict) for inner in value):
            names = [inner.get("name") for inner in value]
            named = None not in names and len(set(names)) == len(names)
            label: Callable[[int], object] = (lambda number: names[number]) if named else (lambda number: number)
            for number, inner in enumerate(value):
                yield from _flat(f"{where}[{label(number)}]", inner)
        case _:
            yield where, "null" if value is None else str(value)

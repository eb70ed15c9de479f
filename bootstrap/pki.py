"""The cluster's certificates and keys: read back from the machines first, and made only where they are missing.

Names, subjects, usages and alternative names are kubeadm's (kubeadm-facts section 4; `phases/certs/certlist.go`,
`util/pkiutil`), so that kubeadm can check, renew and share what is made here. Nothing here does I/O.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bootstrap import paths
from bootstrap.errors import PkiProblem, PkiRefused
from bootstrap.site import Facts, Node
from bootstrap.spec import Cluster, Host, KeyAlgorithm, LocalEtcd, runs_etcd
from bootstrap.values import ip_address, seconds

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Name = x509.DNSName | x509.IPAddress
Usage = Literal["server", "client"]
T = TypeVar("T")

BACKDATE = datetime.timedelta(minutes=5)
"""How far back certificates begin, for machines whose clock is a little behind (kubeadm's `CertificateBackdate`)."""

_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_RSA_BITS = {"RSA-2048": 2048, "RSA-3072": 3072, "RSA-4096": 4096}
_FIX_BY_HAND = "put the right file back from a backup, or remove it to have a new one made"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a leaf must say: who it is for, what for, and under which names."""

    common_name: str
    usages: tuple[Usage, ...]
    organization: str = ""
    names: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Ca:
    """A row of the table: a certificate authority. `name` is its file under pki/, without the ending."""

    name: str
    common_name: str
    etcd: bool = False  # of etcd, whose key only its members' hosts have


@dataclass(frozen=True, slots=True)
class Leaf:
    """A row of the table: a certificate signed by one of the CAs."""

    name: str
    ca: str
    subject: Callable[[Cluster, Node], Subject]
    etcd: bool = False  # of etcd's members, not of the control plane


def _client(common_name: str) -> Callable[[Cluster, Node], Subject]:
    return lambda _cluster, _node: Subject(common_name, ("client",))


def _api_server(cluster: Cluster, node: Node) -> Subject:
    service = "kubernetes.default.svc"
    wanted = (
        node.name,
        "kubernetes",
        "kubernetes.default",
        service,
        f"{service}.{cluster.networking.dns_domain}",
        cluster.networking.service_address(1),
        node.address,
        cluster.endpoint_name,
        *((cluster.virtual_address,) if cluster.virtual_address else ()),
        *cluster.api_server.cert_sans,
        *node.host.api_server.cert_sans,
    )
    return Subject("kube-apiserver", ("server",), names=alternative_names(wanted))


def _etcd(extra: Callable[[LocalEtcd], Sequence[str]]) -> Callable[[Cluster, Node], Subject]:
    def subject(cluster: Cluster, node: Node) -> Subject:
        own = extra(node.host.etcd.local.over(cluster.etcd.local))
        names = alternative_names((node.name, "localhost", node.address, "127.0.0.1", "::1", *own))
        return Subject(node.name, ("server", "client"), names=names)

    return subject


CAS = (
    Ca("ca", "kubernetes"),
    Ca("front-proxy-ca", "front-proxy-ca"),
    Ca("etcd/ca", "etcd-ca", etcd=True),
)
LEAVES = (
    Leaf("apiserver", "ca", _api_server),
    Leaf("apiserver-kubelet-client", "ca", _client("kube-apiserver-kubelet-client")),
    Leaf("front-proxy-client", "front-proxy-ca", _client("front-proxy-client")),
    Leaf("etcd/server", "etcd/ca", _etcd(lambda etcd: etcd.server_cert_sans), etcd=True),
    Leaf("etcd/peer", "etcd/ca", _etcd(lambda etcd: etcd.peer_cert_sans), etcd=True),
    Leaf("etcd/healthcheck-client", "etcd/ca", _client("kube-etcd-healthcheck-client"), etcd=True),
    Leaf("apiserver-etcd-client", "etcd/ca", _client("kube-apiserver-etcd-client")),
)
SA_KEY, SA_PUB = f"{paths.PKI}/sa.key", f"{paths.PKI}/sa.pub"


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA at work. Without `key` (an external CA) it can check, but not sign. `found` tells it from a new one."""

    certificate: x509.Certificate
    pem: bytes
    key: Key | None
    found: bool = True


@dataclass(slots=True)
class Gathered:
    """What a cluster's hosts hold and shall hold, by host and path, and everything that is wrong with it."""

    files: dict[str, dict[str, bytes]]
    authorities: dict[str, Authority] = field(default_factory=dict)
    problems: list[PkiProblem] = field(default_factory=list)


def complete(
    cluster: Cluster, nodes: Sequence[Node], now: datetime.datetime, *, stacked: bool = True
) -> Mapping[str, Mapping[str, bytes]]:
    """Give every PKI file of each host of the control plane and of etcd, by absolute path, as PEM.

    With `stacked` etcd is on the control plane's hosts, else on those of the role, and then only they have the key of
    its CA. Of an external etcd nothing is made.

    What the hosts hold (`Node.facts.files`) stays as it is, byte for byte: CA pairs, the ServiceAccount pair and
    leaves. What is missing is made: from a CA or ServiceAccount key alone its other half, so that a run killed between
    the two files is finished by the next one (keys therefore come before their certificates here, and are to be
    written in this order). A leaf is issued again, over its own key, where it has expired or its subject, usages or
    names don't cover what the inventory asks for; kubeadm keeps such a leaf (and then fails to serve the new name).
    A CA without its key on any host is an external one: its leaves must all be there, and good.

    Raises `PkiRefused`, with every problem, for what must not be used or replaced silently: unreadable files, a leaf
    that its CA did not sign, a key of another certificate, a CA that is none or has expired, hosts that disagree.
    """
    gathered = gather(cluster, nodes, now, stacked=stacked)
    if gathered.problems:
        raise PkiRefused(gathered.problems)
    return gathered.files


def gather(
    cluster: Cluster,
    nodes: Sequence[Node],
    now: datetime.datetime,
    *,
    kept: Mapping[str, bytes] | None = None,
    stacked: bool = True,
) -> Gathered:
    """Do what `complete` does, with the problems as a part of the result, and the CAs to go on with.

    Where the operator keeps the keys of the CAs, they come from `kept` (`operators`), and no host shall hold them.
    """
    masters = [node for node in nodes if node.host.is_control_plane]
    members = [node for node in nodes if runs_etcd(node.host, cluster, stacked=stacked)]
    everyone = [node for node in nodes if node in masters or node in members]
    gathered = Gathered({node.name: {} for node in everyone})
    keepers = _keepers(gathered, cluster, kept or {})
    for ca in _cas(cluster):
        holders, signers = (everyone, members) if ca.etcd else (masters, masters)
        _gather_ca(gathered, cluster, [*holders, *keepers], [*signers, *keepers], ca, now)
    if cluster.ca_directory:
        del gathered.files[cluster.ca_directory]
        for files in gathered.files.values():
            for ca in _cas(cluster):
                files.pop(f"{paths.PKI}/{ca.name}.key", None)
    for leaf in LEAVES:
        if leaf.ca in gathered.authorities:
            for node in members if leaf.etcd else masters:
                _gather_leaf(gathered, cluster, node, leaf, now)
    _gather_service_account(gathered, cluster, masters)
    return gathered


def operators(
    cluster: Cluster, nodes: Sequence[Node], now: datetime.datetime, kept: Mapping[str, bytes]
) -> Mapping[str, bytes]:
    """Give the CAs' files for the operator to keep, by the path that they would have on a machine.

    They are what he holds (`kept`) or a control-plane host does, and new ones where nobody holds any; each key comes
    before its certificate. Raises `PkiRefused` as `complete` does.
    """
    masters = [node for node in nodes if node.host.is_control_plane]
    everyone = [node for node in nodes if not node.host.is_worker]
    gathered = Gathered({node.name: {} for node in everyone})
    (keeper,) = _keepers(gathered, cluster, kept)
    for ca in _cas(cluster):
        holders = [*(everyone if ca.etcd else masters), keeper]
        _gather_ca(gathered, cluster, holders, holders, ca, now)
    if gathered.problems:
        raise PkiRefused(gathered.problems)
    return gathered.files[keeper.name]


def _keepers(gathered: Gathered, cluster: Cluster, kept: Mapping[str, bytes]) -> list[Node]:
    """Give the operator's folder as one more holder of CAs, where the cluster has it."""
    if not cluster.ca_directory:
        return []
    host = Host.model_construct(name=cluster.ca_directory, roles=("control-plane",))
    gathered.files.setdefault(host.name, {})
    return [Node(host, "", Facts(files=kept))]


def _cas(cluster: Cluster) -> list[Ca]:
    return [ca for ca in CAS if cluster.etcd.external is None or not ca.etcd]


def authority(name: str, certificate: bytes, files: Mapping[str, bytes]) -> Authority:
    """Give the CA `name` by its certificate (PEM), with the key that is among `files` if it is the one.

    Raises `PkiRefused` for what is no certificate.
    """
    path = f"{paths.PKI}/{name}.crt"
    read, key = read_certificate(certificate), read_key(files.get(f"{paths.PKI}/{name}.key", b""))
    if read is None:
        raise PkiRefused([PkiProblem("control plane", path, "is not a certificate in PEM", _FIX_BY_HAND)])
    return Authority(read, certificate, key if key is not None and matches(key, read) else None)


def strangers(masters: Sequence[Node]) -> list[PkiProblem]:
    """Tell which of these hosts have another CA certificate than the first."""
    gathered = Gathered({})
    path = f"{paths.PKI}/ca.crt"
    _agree(gathered, path, [(node, node.facts.files[path].strip()) for node in masters if path in node.facts.files])
    return gathered.problems


def mode(path: str) -> int:
    """Give the mode of a PKI file or a kubeconfig (kubeadm-facts section 6)."""
    return 0o644 if path.endswith(".crt") else 0o600


def alternative_names(texts: Sequence[str]) -> tuple[Name, ...]:
    """Give `texts` as a certificate's names: DNS names sorted, then addresses in order, each once (as kubeadm)."""
    addresses = dict.fromkeys(ip for text in texts if (ip := ip_address(text)) is not None)
    names = {text.lower() for text in texts if ip_address(text) is None}
    return (*map(x509.DNSName, sorted(names)), *map(x509.IPAddress, addresses))


def new_key(algorithm: KeyAlgorithm) -> Key:
    """Draw a private key."""
    match algorithm:
        case "ECDSA-P256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ECDSA-P384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[algorithm])


def key_pem(key: Key) -> bytes:
    """Give a private key as kubeadm writes it: `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC1)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Give a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    subject: Subject, key: Key, authority: Authority, cluster: Cluster, now: datetime.datetime
) -> x509.Certificate:
    """Sign a leaf for `key`, valid from five minutes ago for the cluster's `certificateValidityPeriod`.

    The authority must have its key.
    """
    assert authority.key is not None
    builder = _builder(_x509_name(subject.common_name, subject.organization), key, now)
    builder = (
        builder.issuer_name(authority.certificate.subject)
        .not_valid_after(_end(now, cluster.certificate_validity_period))
        .add_extension(_key_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[usage] for usage in subject.usages]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if (identifier := _key_identifier(authority.certificate)) is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    if subject.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(subject.names), critical=False)
    return builder.sign(authority.key, _digest(authority.key))


def self_signed(common_name: str, key: Key, cluster: Cluster, now: datetime.datetime) -> x509.Certificate:
    """Make a CA's certificate for `key`, valid for the cluster's `caCertificateValidityPeriod`."""
    name = _x509_name(common_name)
    return (
        _builder(name, key, now)
        .issuer_name(name)
        .not_valid_after(_end(now, cluster.ca_certificate_validity_period))
        .add_extension(_key_usage(sign=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, _digest(key))
    )


def read_certificate(pem: bytes) -> x509.Certificate | None:
    """Read the first certificate of a PEM file; None where there is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def read_key(pem: bytes) -> Key | None:
    """Read a private key in any PEM form, RSA or ECDSA, without a passphrase; None where it is none."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Key) else None


def signed_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Say whether `ca` issued `certificate`, by name and signature."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def covers(certificate: x509.Certificate, subject: Subject, now: datetime.datetime) -> bool:
    """Say whether a leaf has not expired and says all that `subject` asks for, names beyond them allowed."""
    if certificate.not_valid_after_utc <= now or certificate.subject != _x509_name(
        subject.common_name, subject.organization
    ):
        return False
    extensions = certificate.extensions
    try:
        usages = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = set()
    try:
        names = set(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = set()
    return usages >= {_USAGES[usage] for usage in subject.usages} and names >= set(subject.names)


def names_of(pem: bytes) -> tuple[str, ...]:
    """Give the alternative names of a certificate, as texts; none of what is no certificate."""
    certificate = read_certificate(pem)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value if certificate else ()
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def matches(key: Key, certificate: x509.Certificate) -> bool:
    """Say whether `certificate` is for `key`."""
    return _public(key) == certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _gather_ca(
    gathered: Gathered,
    cluster: Cluster,
    nodes: Sequence[Node],
    signers: Sequence[Node],
    ca: Ca,
    now: datetime.datetime,
) -> None:
    """Gather a CA for `nodes`, its key for `signers` alone; another that holds the key already may keep it."""
    crt, key_path = f"{paths.PKI}/{ca.name}.crt", f"{paths.PKI}/{ca.name}.key"
    before = len(gathered.problems)
    certificates = _read_all(gathered, nodes, crt, read_certificate, "a certificate")
    keys: list[tuple[Node, bytes, Key]] = _read_all(
        gathered, nodes, key_path, read_key, "a private key without a passphrase"
    )
    _agree(gathered, crt, [(node, found) for node, _, found in certificates])
    if not certificates:
        _agree(gathered, key_path, [(node, _public(found)) for node, _, found in keys])
    for node, _, certificate in certificates[:1]:
        _check_ca(gathered, node, crt, certificate, now)
        for holder, _, held in keys:
            if not matches(held, certificate):
                what = f"is not the key of {ca.name}.crt on {node.name}"
                gathered.problems.append(PkiProblem(holder.name, key_path, what, _FIX_BY_HAND))
    if len(gathered.problems) > before:
        return
    if certificates:
        _, pem, certificate = certificates[0]
        key = keys[0][2] if keys else None
    else:
        signer = keys[0][2] if keys else new_key(cluster.encryption_algorithm)
        key, certificate = signer, self_signed(ca.common_name, signer, cluster, now)
        pem = certificate_pem(certificate)
    gathered.authorities[ca.name] = Authority(certificate, pem, key, found=bool(certificates))
    for node in nodes:
        files = gathered.files[node.name]
        if key is not None and node in signers:
            files[key_path] = node.facts.files.get(key_path, keys[0][1] if keys else key_pem(key))
        files[crt] = node.facts.files.get(crt, pem)


def _check_ca(gathered: Gathered, node: Node, crt: str, certificate: x509.Certificate, now: datetime.datetime) -> None:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        gathered.problems.append(PkiProblem(node.name, crt, "is not the certificate of a CA", _FIX_BY_HAND))
    elif certificate.not_valid_after_utc <= now:
        what = f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}, and all that it signed with it"
        fix = "replace the CA by hand (Kubernetes' documentation: manual rotation of CA certificates)"
        gathered.problems.append(PkiProblem(node.name, crt, what, fix))


def _gather_leaf(gathered: Gathered, cluster: Cluster, node: Node, leaf: Leaf, now: datetime.datetime) -> None:
    crt, key_path = f"{paths.PKI}/{leaf.name}.crt", f"{paths.PKI}/{leaf.name}.key"
    before = len(gathered.problems)
    certificates = _read_all(gathered, [node], crt, read_certificate, "a certificate")
    keys: list[tuple[Node, bytes, Key]] = _read_all(
        gathered, [node], key_path, read_key, "a private key without a passphrase"
    )
    authority = gathered.authorities[leaf.ca]
    for _, _, certificate in certificates:
        if not signed_by(certificate, authority.certificate):
            what = f"was not signed by {leaf.ca}.crt"
            if not authority.found:
                what += ", which no host holds any more"
            gathered.problems.append(PkiProblem(node.name, crt, what, _FIX_BY_HAND))
        for _, _, key in keys:
            if not matches(key, certificate):
                what = f"is not the key of {leaf.name}.crt"
                gathered.problems.append(PkiProblem(node.name, key_path, what, _FIX_BY_HAND))
    if len(gathered.problems) > before:
        return
    files, subject = gathered.files[node.name], leaf.subject(cluster, node)
    if certificates and keys and covers(certificates[0][2], subject, now):
        files[key_path], files[crt] = keys[0][1], certificates[0][1]
        return
    if authority.key is None:
        gathered.problems.append(unsigned(cluster, node.name, crt, leaf.ca))
        return
    key = keys[0][2] if keys else new_key(cluster.encryption_algorithm)
    files[key_path] = keys[0][1] if keys else key_pem(key)
    files[crt] = certificate_pem(issue(subject, key, authority, cluster, now))


def unsigned(cluster: Cluster, host: str, path: str, ca: str) -> PkiProblem:
    """Say that `path` must be signed, but the CA's key is not where it should be."""
    where = f"{cluster.ca_directory} does not hold" if cluster.ca_directory else "no host has"
    what = f"is missing, expired or lacks a name, and cannot be signed: {where} {ca}.key"
    return PkiProblem(host, path, what, f"put {ca}.key back, or sign the file where the key is")


def _gather_service_account(gathered: Gathered, cluster: Cluster, masters: Sequence[Node]) -> None:
    before = len(gathered.problems)
    keys: list[tuple[Node, bytes, Key]] = _read_all(
        gathered, masters, SA_KEY, read_key, "a private key without a passphrase"
    )
    publics = _read_all(gathered, masters, SA_PUB, _read_public_keys, "a list of public keys")
    _agree(gathered, SA_KEY, [(node, _public(key)) for node, _, key in keys])
    for node, _, found in publics:
        if not keys:
            what = "has no private key beside it on any control-plane host: tokens signed with it would turn invalid"
            gathered.problems.append(PkiProblem(node.name, SA_PUB, what, "put sa.key back, or remove sa.pub"))
        elif _public(keys[0][2]) not in found:
            what = "does not hold the public key of sa.key"
            gathered.problems.append(PkiProblem(node.name, SA_PUB, what, "put the right file back, or remove it"))
    if len(gathered.problems) > before:
        return
    key = keys[0][2] if keys else new_key(cluster.encryption_algorithm)
    pem = keys[0][1] if keys else key_pem(key)
    # One with several keys is a rotation under way: the other hosts must accept as much.
    public = max((text for _, text, _ in publics), key=len, default=_public_pem(key))
    for node in masters:
        gathered.files[node.name][SA_KEY] = node.facts.files.get(SA_KEY, pem)
        gathered.files[node.name][SA_PUB] = node.facts.files.get(SA_PUB, public)


def _read_all(
    gathered: Gathered, nodes: Sequence[Node], path: str, read: Callable[[bytes], T | None], kind: str
) -> list[tuple[Node, bytes, T]]:
    found: list[tuple[Node, bytes, T]] = []
    for node in nodes:
        if (data := node.facts.files.get(path)) is None:
            continue
        value = read(data)
        if value is None:
            gathered.problems.append(PkiProblem(node.name, path, f"is not {kind} in PEM", _FIX_BY_HAND))
        else:
            found.append((node, data, value))
    return found


def _agree(gathered: Gathered, path: str, found: Sequence[tuple[Node, object]]) -> None:
    for node, value in found[1:]:
        if value != found[0][1]:
            what = f"differs from that on {found[0][0].name}: these are not hosts of one cluster"
            fix = "keep the right one on both hosts, or reset the host that is not of this cluster"
            gathered.problems.append(PkiProblem(node.name, path, what, fix))


def _read_public_keys(pem: bytes) -> list[bytes] | None:
    end = b"-----END PUBLIC KEY-----"
    found: list[bytes] = []
    for block in pem.split(end)[:-1]:
        try:
            key = serialization.load_pem_public_key(block.lstrip() + end + b"\n")
        except (ValueError, UnsupportedAlgorithm):
            return None
        found.append(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return found or None


def _public(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public_pem(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _builder(name: x509.Name, key: Key, now: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(1 + secrets.randbelow(2**63 - 2))  # kubeadm's range
        .not_valid_before(now.astimezone(datetime.UTC).replace(microsecond=0) - BACKDATE)
    )


def _end(now: datetime.datetime, period: str) -> datetime.datetime:
    return now.astimezone(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=seconds(period))


def _x509_name(common_name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _key_usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_identifier(ca: x509.Certificate) -> x509.SubjectKeyIdentifier | None:
    try:
        return ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None


def _digest(key: Key) -> hashes.SHA256 | hashes.SHA384:
    # What Go signs with when it is not told: the hash that suits the signer's key.
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256 else hashes.SHA256()

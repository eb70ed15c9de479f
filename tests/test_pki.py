from __future__ import annotations

import dataclasses
import datetime
import functools
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import paths, pki
from bootstrap.errors import PkiRefused
from bootstrap.site import Facts, Node
from bootstrap.spec import ApiServer, Cluster, Etcd, ExternalEndpoint, ExternalEtcd, Host, LocalEtcd

NOW = datetime.datetime(2026, 5, 17, 12, 0, 0, 123456, tzinfo=datetime.UTC)
Files = Mapping[str, bytes]


def node(
    name: str = "cp1", address: str = "192.0.2.11", files: Files | None = None, role: str = "control-plane"
) -> Node:
    host = Host.model_validate({"name": name, "address": address, "roles": [role]})
    return Node(host, address, Facts(files=files or {}))


def holding(files: Files, **changes: bytes | None) -> Node:
    """A control plane that holds `files`, but for those given here by their names under pki/ (None: not there)."""
    held = dict(files)
    for name, data in changes.items():
        held.pop(path(name), None)
        if data is not None:
            held[path(name)] = data
    return node(files=held)


def path(name: str) -> str:
    return f"{paths.PKI}/{name}"


@functools.cache
def fresh(cluster_name: str = "kubernetes") -> Files:
    return pki.complete(Cluster(name=cluster_name), [node()], NOW)["cp1"]


def certificate(files: Files, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files[path(name)])


def names(cert: x509.Certificate) -> list[str]:
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]


def problems(*nodes: Node, cluster: Cluster | None = None, now: datetime.datetime = NOW) -> list[tuple[str, str]]:
    with pytest.raises(PkiRefused) as refused:
        pki.complete(cluster or Cluster(), nodes, now)
    return [(problem.host, problem.path.removeprefix(f"{paths.PKI}/")) for problem in refused.value.problems]


def test_an_empty_host_gets_every_file_of_kubeadm() -> None:
    pairs = [
        "ca",
        "apiserver",
        "apiserver-kubelet-client",
        "front-proxy-ca",
        "front-proxy-client",
        "apiserver-etcd-client",
        "etcd/ca",
        "etcd/server",
        "etcd/peer",
        "etcd/healthcheck-client",
    ]
    wanted = {path(f"{name}.{end}") for name in pairs for end in ("crt", "key")} | {pki.SA_KEY, pki.SA_PUB}
    assert set(fresh()) == wanted


@pytest.mark.parametrize(
    ("name", "common_name", "usages", "signer"),
    [
        ("apiserver", "kube-apiserver", ["serverAuth"], "ca"),
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["clientAuth"], "ca"),
        ("front-proxy-client", "front-proxy-client", ["clientAuth"], "front-proxy-ca"),
        ("apiserver-etcd-client", "kube-apiserver-etcd-client", ["clientAuth"], "etcd/ca"),
        ("etcd/server", "cp1", ["serverAuth", "clientAuth"], "etcd/ca"),
        ("etcd/peer", "cp1", ["serverAuth", "clientAuth"], "etcd/ca"),
        ("etcd/healthcheck-client", "kube-etcd-healthcheck-client", ["clientAuth"], "etcd/ca"),
    ],
)
def test_leaves_are_what_kubeadm_makes(name: str, common_name: str, usages: list[str], signer: str) -> None:
    leaf, ca = certificate(fresh(), f"{name}.crt"), certificate(fresh(), f"{signer}.crt")
    leaf.verify_directly_issued_by(ca)
    assert leaf.subject.rfc4514_string() == f"CN={common_name}"
    extensions = {extension.value.oid._name: extension for extension in leaf.extensions}
    assert set(extensions) - {"subjectAltName"} == {
        "keyUsage",
        "extendedKeyUsage",
        "basicConstraints",
        "authorityKeyIdentifier",
    }
    used = extensions["extendedKeyUsage"].value
    assert isinstance(used, x509.ExtendedKeyUsage)
    assert [usage._name for usage in used] == usages
    assert extensions["keyUsage"].critical
    assert extensions["basicConstraints"].critical
    usage = extensions["keyUsage"].value
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)


@pytest.mark.parametrize(
    ("name", "common_name"), [("ca", "kubernetes"), ("front-proxy-ca", "front-proxy-ca"), ("etcd/ca", "etcd-ca")]
)
def test_authorities_are_what_kubeadm_makes(name: str, common_name: str) -> None:
    ca = certificate(fresh(), f"{name}.crt")
    assert ca.subject == ca.issuer
    assert ca.subject.rfc4514_string() == f"CN={common_name}"
    assert names(ca) == [common_name]
    assert {extension.value.oid._name for extension in ca.extensions} == {
        "keyUsage",
        "basicConstraints",
        "subjectKeyIdentifier",
        "subjectAltName",
    }
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        ca=True, path_length=None
    )
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_certificates_begin_five_minutes_ago_and_last_as_configured() -> None:
    cluster = Cluster(certificate_validity_period="48h", ca_certificate_validity_period="72h")
    files = pki.complete(cluster, [node()], NOW)["cp1"]
    now = NOW.replace(microsecond=0)
    leaf, ca = certificate(files, "apiserver.crt"), certificate(files, "ca.crt")
    assert leaf.not_valid_before_utc == ca.not_valid_before_utc == now - datetime.timedelta(minutes=5)
    assert leaf.not_valid_after_utc == now + datetime.timedelta(hours=48)
    assert ca.not_valid_after_utc == now + datetime.timedelta(hours=72)


def test_serials_are_positive_and_differ() -> None:
    serials = [x509.load_pem_x509_certificate(pem).serial_number for p, pem in fresh().items() if p.endswith(".crt")]
    assert all(0 < serial < 2**63 for serial in serials)
    assert len(set(serials)) == len(serials)


def test_the_api_server_answers_to_kubeadms_names_in_kubeadms_order() -> None:
    cluster = Cluster(
        endpoint=ExternalEndpoint(kind="external", name="192.0.2.99"),
        api_server=ApiServer(cert_sans=("*.example.com", "192.0.2.11", "api.example.com")),
    )
    files = pki.complete(cluster, [node()], NOW)["cp1"]
    assert names(certificate(files, "apiserver.crt")) == [
        "*.example.com",
        "api.example.com",
        "cp1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "10.96.0.1",
        "192.0.2.11",
        "192.0.2.99",
    ]


def test_etcd_answers_to_its_node_and_to_the_names_given_for_each_port() -> None:
    etcd = Etcd(local=LocalEtcd(server_cert_sans=("etcd.example.com",), peer_cert_sans=("192.0.2.77",)))
    files = pki.complete(Cluster(etcd=etcd), [node()], NOW)["cp1"]
    addresses = ["192.0.2.11", "127.0.0.1", "::1"]
    assert names(certificate(files, "etcd/server.crt")) == ["cp1", "etcd.example.com", "localhost", *addresses]
    assert names(certificate(files, "etcd/peer.crt")) == ["cp1", "localhost", *addresses, "192.0.2.77"]


def test_a_hosts_own_names_are_in_its_certificates_alone() -> None:
    own = {
        "apiServer": {"certSANs": ["one.example.com"]},
        "etcd": {"local": {"serverCertSANs": ["192.0.2.71"], "peerCertSANs": ["192.0.2.72"]}},
    }
    first = Host.model_validate({"name": "cp1", "address": "192.0.2.11", "roles": ["control-plane"], **own})
    cluster = Cluster(api_server=ApiServer(cert_sans=("all.example.com",)))
    made = pki.complete(cluster, [Node(first, "192.0.2.11", Facts()), node("cp2", "192.0.2.12")], NOW)
    for place, name in (
        ("apiserver.crt", "one.example.com"),
        ("etcd/server.crt", "192.0.2.71"),
        ("etcd/peer.crt", "192.0.2.72"),
    ):
        assert name in names(certificate(made["cp1"], place))
        assert name not in names(certificate(made["cp2"], place))
    for files in made.values():
        assert "all.example.com" in names(certificate(files, "apiserver.crt"))


@given(
    texts=st.lists(st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-c]{1,3}(\.[a-c]{1,3})?", fullmatch=True)))
)
@settings(max_examples=50, deadline=None)
def test_names_are_there_once_with_dns_names_sorted_first(texts: list[str]) -> None:
    made = pki.alternative_names(texts)
    dns = [name.value for name in made if isinstance(name, x509.DNSName)]
    addresses = [name for name in made if isinstance(name, x509.IPAddress)]
    assert list(made) == [x509.DNSName(name) for name in dns] + addresses
    assert dns == sorted(set(dns))
    assert len(set(addresses)) == len(addresses)
    assert {str(name.value) for name in made} == set(texts)


@given(
    name=st.from_regex(r"[a-z]{1,5}[0-9]?(\.[a-z]{1,5})?", fullmatch=True),
    extra=st.lists(st.from_regex(r"[a-z]{1,6}\.example\.com", fullmatch=True), max_size=3),
)
@settings(max_examples=10, deadline=None)
def test_an_independent_verifier_accepts_the_api_server_under_each_of_its_names(name: str, extra: list[str]) -> None:
    cluster = Cluster(api_server=ApiServer(cert_sans=tuple(extra)))
    files = pki.complete(cluster, [node(name)], NOW)[name]
    store = verification.Store([certificate(files, "ca.crt")])
    any_extension, either = verification.ExtensionPolicy.permit_all(), verification.Criticality.AGNOSTIC
    ca_policy = any_extension.require_present(x509.BasicConstraints, either, None)
    leaf_policy = any_extension.require_present(x509.SubjectAlternativeName, either, None)
    for wanted in (name, *extra, "kubernetes.default.svc", cluster.endpoint_name):
        builder = (
            verification.PolicyBuilder()
            .store(store)
            .time(NOW)
            .extension_policies(ca_policy=ca_policy, ee_policy=leaf_policy)
        )
        builder.build_server_verifier(x509.DNSName(wanted)).verify(certificate(files, "apiserver.crt"), [])


def test_openssl_accepts_every_leaf_for_its_purpose(tmp_path: Path) -> None:
    for name in ("ca.crt", "apiserver.crt", "apiserver-kubelet-client.crt"):
        (tmp_path / name).write_bytes(fresh()[path(name)])
    for purpose, name in (("sslserver", "apiserver.crt"), ("sslclient", "apiserver-kubelet-client.crt")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(NOW.timestamp()))]
        done = subprocess.run(
            [*command, "-CAfile", tmp_path / "ca.crt", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or "Missing Subject Key Identifier" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("algorithm", "title", "size"),
    [
        ("RSA-2048", b"RSA PRIVATE KEY", 2048),
        ("ECDSA-P256", b"EC PRIVATE KEY", 256),
        ("ECDSA-P384", b"EC PRIVATE KEY", 384),
    ],
)
def test_keys_are_of_the_configured_algorithm_in_kubeadms_form(algorithm: str, title: bytes, size: int) -> None:
    cluster = Cluster.model_validate({"encryptionAlgorithm": algorithm})
    files = pki.complete(cluster, [node()], NOW)["cp1"]
    for name in ("ca.key", "apiserver.key", "etcd/peer.key", "sa.key"):
        assert files[path(name)].startswith(b"-----BEGIN " + title)
        key = pki.read_key(files[path(name)])
        assert key is not None
        assert key.key_size == size
    digest = hashes.SHA384 if algorithm == "ECDSA-P384" else hashes.SHA256
    assert isinstance(certificate(files, "apiserver.crt").signature_hash_algorithm, digest)


@pytest.mark.parametrize("bits", [3072, 4096])
def test_large_rsa_keys_can_be_drawn(bits: int) -> None:
    key = pki.new_key("RSA-3072" if bits == 3072 else "RSA-4096")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == bits


def test_the_public_service_account_key_is_that_of_the_private_one() -> None:
    key = pki.read_key(fresh()[pki.SA_KEY])
    assert key is not None
    assert fresh()[pki.SA_PUB] == pki._public_pem(key)
    assert fresh()[pki.SA_PUB].startswith(b"-----BEGIN PUBLIC KEY-----")


def test_keys_stand_before_their_certificates() -> None:
    order = list(fresh())
    for name in order:
        if name.endswith(".crt"):
            assert order.index(name.removesuffix(".crt") + ".key") < order.index(name)


def test_what_a_host_holds_stays_byte_for_byte() -> None:
    later = NOW + datetime.timedelta(days=100)
    assert pki.complete(Cluster(), [node(files=fresh())], later)["cp1"] == fresh()


def test_a_configured_algorithm_does_not_replace_what_is_there() -> None:
    cluster = Cluster(encryption_algorithm="ECDSA-P384")
    assert pki.complete(cluster, [node(files=fresh())], NOW)["cp1"] == fresh()


@given(missing=st.sets(st.sampled_from(sorted(fresh()))))
@settings(max_examples=25, deadline=None)
def test_a_run_that_was_killed_anywhere_is_finished(missing: set[str]) -> None:
    """Keys are written before their certificates, so of a pair the certificate is what can be missing."""
    written = [p for p in fresh() if p not in missing]
    held = {p: fresh()[p] for p in written if not p.endswith(".crt") or p.removesuffix(".crt") + ".key" in written}
    if pki.SA_KEY not in held:
        held.pop(pki.SA_PUB, None)
    for signer, leaves in (("ca", "apiserver"), ("etcd/ca", "etcd/"), ("front-proxy-ca", "front-proxy-client")):
        if path(f"{signer}.key") not in held:
            held = {p: data for p, data in held.items() if not p.startswith((path(leaves), path("apiserver-etcd")))}
    made = pki.complete(Cluster(), [node(files=held)], NOW)["cp1"]
    assert {p: made[p] for p in held} == held
    assert pki.complete(Cluster(), [node(files=made)], NOW)["cp1"] == made


def test_a_ca_key_alone_gets_a_certificate_that_its_leaves_still_verify_with() -> None:
    made = pki.complete(Cluster(), [holding(fresh(), **{"ca.crt": None})], NOW)["cp1"]
    assert made[path("ca.key")] == fresh()[path("ca.key")]
    assert made[path("apiserver.crt")] == fresh()[path("apiserver.crt")]
    certificate(made, "apiserver.crt").verify_directly_issued_by(certificate(made, "ca.crt"))


def test_a_leaf_that_lacks_a_new_name_is_issued_again_over_its_own_key() -> None:
    cluster = Cluster(api_server=ApiServer(cert_sans=("new.example.com",)))
    made = pki.complete(cluster, [node(files=fresh())], NOW)["cp1"]
    changed = {p for p in made if made[p] != fresh()[p]}
    assert changed == {path("apiserver.crt")}
    assert "new.example.com" in names(certificate(made, "apiserver.crt"))


def test_a_leaf_with_more_names_than_needed_is_kept() -> None:
    more = pki.complete(Cluster(api_server=ApiServer(cert_sans=("old.example.com",))), [node(files=fresh())], NOW)[
        "cp1"
    ]
    assert pki.complete(Cluster(), [node(files=more)], NOW)["cp1"] == more


def test_expired_leaves_are_issued_again() -> None:
    later = NOW + datetime.timedelta(days=366)
    made = pki.complete(Cluster(), [node(files=fresh())], later)["cp1"]
    changed = {p.removeprefix(f"{paths.PKI}/") for p in made if made[p] != fresh()[p]}
    assert changed == {f"{leaf.name}.crt" for leaf in pki.LEAVES}
    assert certificate(made, "apiserver.crt").not_valid_after_utc > later


def test_control_planes_share_the_authorities_and_have_their_own_leaves() -> None:
    made = pki.complete(
        Cluster(), [node(files=fresh()), node("cp2", "192.0.2.12"), node("w1", "192.0.2.21", role="worker")], NOW
    )
    assert set(made) == {"cp1", "cp2"}
    shared = {path(f"{ca.name}.{end}") for ca in pki.CAS for end in ("crt", "key")} | {pki.SA_KEY, pki.SA_PUB}
    assert made["cp1"] == fresh()
    assert {p for p in made["cp2"] if made["cp2"][p] == fresh()[p]} == shared
    assert "192.0.2.12" in names(certificate(made["cp2"], "apiserver.crt"))
    assert "192.0.2.11" not in names(certificate(made["cp2"], "apiserver.crt"))


def test_the_second_control_plane_may_hold_what_the_first_lacks() -> None:
    made = pki.complete(Cluster(), [node("cp0", "192.0.2.10"), node(files=fresh())], NOW)
    assert made["cp0"][path("ca.key")] == fresh()[path("ca.key")]
    assert made["cp0"][pki.SA_KEY] == fresh()[pki.SA_KEY]


def test_with_external_etcd_no_etcd_certificates_are_made() -> None:
    external = ExternalEtcd(
        endpoints=("https://etcd.example.com:2379",), ca_file="/x/ca.crt", cert_file="/x/c.crt", key_file="/x/c.key"
    )
    made = pki.complete(Cluster(etcd=Etcd(external=external)), [node()], NOW)["cp1"]
    assert not [p for p in made if "etcd" in p]


def test_an_external_ca_needs_no_key_while_its_leaves_are_good() -> None:
    made = pki.complete(Cluster(), [holding(fresh(), **{"ca.key": None})], NOW)["cp1"]
    assert made == {p: data for p, data in fresh().items() if p != path("ca.key")}


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (lambda: holding(fresh(), **{"ca.key": None, "apiserver.crt": None}), [("cp1", "apiserver.crt")]),
        (lambda: holding(fresh(), **{"ca.crt": b"nonsense"}), [("cp1", "ca.crt")]),
        (lambda: holding(fresh(), **{"ca.key": b"nonsense"}), [("cp1", "ca.key")]),
        (lambda: holding(fresh(), **{"ca.key": fresh()[path("etcd/ca.key")]}), [("cp1", "ca.key")]),
        (lambda: holding(fresh(), **{"apiserver.key": fresh()[path("etcd/ca.key")]}), [("cp1", "apiserver.key")]),
        (
            lambda: holding(
                fresh(),
                **{
                    "front-proxy-client.crt": fresh("other")[path("front-proxy-client.crt")],
                    "front-proxy-client.key": fresh("other")[path("front-proxy-client.key")],
                },
            ),
            [("cp1", "front-proxy-client.crt")],
        ),
        (
            lambda: holding(fresh(), **{"front-proxy-ca.crt": None, "front-proxy-ca.key": None}),
            [("cp1", "front-proxy-client.crt")],
        ),
        (lambda: holding(fresh(), **{"sa.key": None}), [("cp1", "sa.pub")]),
        (lambda: holding(fresh(), **{"sa.pub": fresh("other")[pki.SA_PUB]}), [("cp1", "sa.pub")]),
        (lambda: holding(fresh(), **{"sa.pub": b"nonsense"}), [("cp1", "sa.pub")]),
    ],
    ids=[
        "external-ca-without-a-leaf",
        "unreadable-certificate",
        "unreadable-key",
        "key-of-another-ca",
        "key-of-another-leaf",
        "leaf-of-another-cluster",
        "authority-gone",
        "service-account-key-gone",
        "public-key-of-another",
        "unreadable-public-key",
    ],
)
def test_what_must_not_be_used_is_refused_by_host_and_path(
    host: Callable[[], Node], wanted: list[tuple[str, str]]
) -> None:
    assert problems(host()) == wanted


def test_a_ca_that_is_a_leaf_is_refused() -> None:
    leaf = {"ca.crt": fresh()[path("apiserver.crt")], "ca.key": fresh()[path("apiserver.key")]}
    assert ("cp1", "ca.crt") in problems(holding({}, **leaf))


def test_an_expired_ca_is_refused() -> None:
    found = problems(holding(fresh()), now=NOW + datetime.timedelta(days=3651))
    assert {name for _, name in found} >= {"ca.crt", "front-proxy-ca.crt", "etcd/ca.crt"}


def test_control_planes_that_disagree_are_refused() -> None:
    other = node("cp2", "192.0.2.12", fresh("other"))
    found = problems(node(files=fresh()), other)
    assert {("cp2", "ca.crt"), ("cp2", "front-proxy-ca.crt"), ("cp2", "etcd/ca.crt"), ("cp2", "sa.key")} <= set(found)


def test_every_problem_is_told_at_once_and_no_key_is_shown() -> None:
    broken = holding(fresh(), **{"ca.crt": b"x", "sa.pub": b"y", "etcd/peer.key": fresh()[path("ca.key")]})
    with pytest.raises(PkiRefused) as refused:
        pki.complete(Cluster(), [broken], NOW)
    message = str(refused.value)
    for name in ("ca.crt", "sa.pub", "etcd/peer.key"):
        assert f"cp1: {path(name)} " in message
    assert "BEGIN" not in message
    assert refused.value.exit_code == 3


def test_an_encrypted_key_is_refused_instead_of_asked_for() -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    assert problems(holding(fresh(), **{"sa.key": pem, "sa.pub": None})) == [("cp1", "sa.key")]


def test_several_public_service_account_keys_are_kept_and_shared() -> None:
    both = fresh()[pki.SA_PUB] + fresh("other")[pki.SA_PUB]
    made = pki.complete(Cluster(), [holding(fresh(), **{"sa.pub": both}), node("cp2", "192.0.2.12")], NOW)
    assert made["cp1"][pki.SA_PUB] == made["cp2"][pki.SA_PUB] == both


def test_modes_are_kubeadms() -> None:
    modes = {p: pki.mode(p) for p in [*fresh(), paths.ADMIN_CONF]}
    assert all(mode == (0o644 if p.endswith(".crt") else 0o600) for p, mode in modes.items())


def test_workers_certificates_are_not_looked_at() -> None:
    worker = dataclasses.replace(node("w1", "192.0.2.21", role="worker"), facts=Facts(files={path("ca.crt"): b"x"}))
    assert set(pki.complete(Cluster(), [node(), worker], NOW)) == {"cp1"}


def test_only_etcds_own_hosts_have_the_key_of_its_ca() -> None:
    nodes = [node(), node("etcd1", "192.0.2.51", role="etcd"), node("etcd2", "192.0.2.52", role="etcd")]
    files = pki.complete(Cluster(), nodes, NOW, stacked=False)
    of_members = ("etcd/ca", "etcd/server", "etcd/peer", "etcd/healthcheck-client")
    for member in ("etcd1", "etcd2"):
        assert sorted(files[member]) == sorted(path(f"{name}.{kind}") for name in of_members for kind in ("crt", "key"))
        assert files[member][path("etcd/ca.key")] == files["etcd1"][path("etcd/ca.key")]
    assert {name for name in files["cp1"] if "/etcd/" in name} == {path("etcd/ca.crt")}
    assert pki.signed_by(
        certificate(files["cp1"], "apiserver-etcd-client.crt"), certificate(files["etcd1"], "etcd/ca.crt")
    )
    held = [Node(one.host, one.address, Facts(files=files[one.name])) for one in nodes]
    assert pki.complete(Cluster(), held, NOW, stacked=False) == files
    # Nor does a control plane that is all that is left make another.
    assert pki.complete(Cluster(), held[:1], NOW, stacked=False)["cp1"] == files["cp1"]

"""The parts of checks that need no cluster; each check is broken and mended for real in tests/lab/test_verify.py."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bootstrap.site import Contents
from bootstrap.spec import Host, Inventory
from bootstrap.transport.local import LocalHost
from bootstrap.verify import catalogue, names
from bootstrap.verify.backend import machine
from bootstrap.verify.catalogue import CATALOGUE
from bootstrap.verify.subject import Subject

DAY = datetime.timedelta(days=1)


@dataclass
class Said:
    stdout: str
    rc: int = 0
    stderr: str = ""


@dataclass
class Answering:
    """A machine that answers every command with what it was told to."""

    answers: Sequence[str]
    commands: list[str] = field(default_factory=list)

    def run(self, command: str, *args: str) -> Said:
        self.commands.append(command % args if args else command)
        return Said(self.answers[len(self.commands) - 1])


def subject(**cluster: object) -> Subject:
    host = Host(name="m1", address="192.0.2.1", roles=("control-plane", "worker"))
    inventory = Inventory.model_validate({"cluster": cluster, "hosts": [host]})
    return Subject(host, inventory, Contents("1.37.2", "linux/amd64", (), ()))


def pair(name: str) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), ec.generate_private_key(ec.SECP256R1())


def mint(name: str, ca: tuple[x509.Name, ec.EllipticCurvePrivateKey], begin: int, end: int) -> str:
    """A certificate of `ca`, valid from `begin` to `end`, in days from now."""
    now = datetime.datetime.now(datetime.UTC)
    subject, key = pair(name)
    own = ca if name == "ca" else (subject, key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own[0])
        .issuer_name(ca[0])
        .public_key(own[1].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin * DAY)
        .not_valid_after(now + end * DAY)
        .sign(ca[1], hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


CA = pair("ca")


@pytest.mark.parametrize(
    ("begin", "end", "complaint"),
    [
        (-1, 364, None),
        (-336, 29, "expires on"),
        (-366, -1, "expired on"),
        (-1, 9, None),  # a short-lived one is not about to expire all its life
        (-8, 2, "expires on"),
    ],
)
def test_a_certificate_is_told_before_it_expires(begin: int, end: int, complaint: str | None) -> None:
    ca = mint("ca", CA, -400, 3650)
    found = list(catalogue._certificate("x.crt", mint("leaf", CA, begin, end), ca))
    assert (not found) if complaint is None else (len(found) == 1 and complaint in found[0])


def test_a_certificate_of_another_ca_is_told() -> None:
    (found,) = catalogue._certificate("x.crt", mint("leaf", pair("other"), -1, 364), mint("ca", CA, -1, 3650))
    assert "not signed by its CA (CN=ca)" in found


def test_a_missing_certificate_is_told() -> None:
    (found,) = catalogue._certificate("x.crt", "", mint("ca", CA, -1, 3650))
    assert "not there" in found


def test_modes_and_owners_are_told_apart() -> None:
    seen = Answering(["600 root /a\n644 root /b\n600 nobody /d with blank\n"])
    wanted = dict.fromkeys(["/a", "/b", "/c", "/d with blank"], "600")
    assert [text.split(" ", 1)[0] for text in catalogue._modes(seen, wanted)] == ["/b", "/c", "/d"]


def test_names_are_unique_and_every_check_says_something() -> None:
    assert len(set(names())) == len(names())
    assert all(check.text for check in CATALOGUE)


def test_a_check_of_the_cluster_is_made_from_one_machine() -> None:
    hosts = [Host(name=f"m{i}", address=f"192.0.2.{i}", roles=("control-plane",)) for i in (1, 2)]
    inventory = Inventory(hosts=(Host(name="w", address="192.0.2.9", roles=("worker",)), *hosts))
    (check,) = [check for check in CATALOGUE if check.id == "nodes"]
    assert [host.name for host in inventory.hosts if check.applies(host, "m1")] == ["m1"]


def test_a_proxy_with_another_list_of_control_planes_is_told() -> None:
    masters = [
        {"name": f"m{i}", "address": f"m{i}", "nodeAddress": f"192.0.2.{i}", "roles": ["control-plane"]}
        for i in (1, 2, 3)
    ]
    worker = {"name": "w", "address": "w", "roles": ["worker"]}
    inventory = Inventory.model_validate({"hosts": [*masters, worker]})
    asked = Subject(inventory.hosts[-1], inventory, Contents("1.37.2", "linux/amd64", (), ()))
    stale = "    server m1 192.0.2.1:6443\n    server m2 192.0.2.9:6443\n    server old 192.0.2.8:6443\n"
    found = list(catalogue.local_proxy(Answering([stale, "c1 1 RUNNING\n", "c1\n"]), asked))
    assert [text.split(": run")[0] for text in found] == [
        "/etc/kubernetes/kubestrap-proxy.cfg lacks m3",
        "/etc/kubernetes/kubestrap-proxy.cfg names old, of which there is none",
        "/etc/kubernetes/kubestrap-proxy.cfg has 192.0.2.9:6443 for m2, whose address is 192.0.2.2",
    ]
    assert list(catalogue.local_proxy(Answering([]), subject())) == []


def test_listening_sockets_are_read_from_the_kernel() -> None:
    rows = "".join(f" 0: 00000000:{port:04X} 00000000:0000 0A 0 0 0\n" for port in (10250, 6443, 10257, 2379, 2380))
    rows += f" 0: 00000000:{10259:04X} 0100007F:1234 01 0 0 0\n"
    assert list(catalogue.ports(Answering([rows]), subject())) == ["nobody listens on TCP port 10259"]


def test_swap_is_no_matter_where_kubelets_bear_it() -> None:
    swaps = "Filename Type\n/dev/sda2 partition\n"
    assert list(catalogue.swap(Answering([swaps]), subject())) == ["in use: /dev/sda2"]
    assert list(catalogue.swap(Answering([swaps]), subject(kubelet={"config": {"failSwapOn": False}}))) == []


def test_several_cni_configurations_are_all_read() -> None:
    text = '{"name": "a", "plugins": [{"type": "bridge"}]}\n{"name": "b", "plugins": [{"type": "none"}]}\n'
    seen = Answering([text, "", ""])
    assert list(catalogue.cni_configuration(seen, subject())) == []
    assert seen.commands[1:] == ["test -x /opt/cni/bin/bridge", "test -x /opt/cni/bin/none"]


def test_testinfra_works_over_a_connection_of_ours(tmp_path: Path) -> None:
    place = tmp_path / "it's here"
    place.write_text("one\n")
    place.chmod(0o640)
    seen = machine(LocalHost("m1"))
    assert seen.file(str(place)).mode == 0o640
    assert seen.file(str(place)).content_string == "one\n"
    assert seen.run("echo %s", "a b").stdout == "a b\n"
    assert seen.run("exit 3").rc == 3

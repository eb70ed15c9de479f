"""The parts of checks that need no cluster; each is broken and mended for real in tests/lab/shared/test_verify.py."""

from __future__ import annotations

import datetime
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bootstrap.spec import Host, Inventory
from bootstrap.transport.local import LocalHost
from bootstrap.verify import asking, in_cluster, made, names, on_control_planes, on_machines, settled
from bootstrap.verify.backend import machine
from bootstrap.verify.catalogue import CATALOGUE, SETTLING
from bootstrap.verify.subject import Check, Remembering, Subject
from tests import builders

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
    rc: int = 0
    stderr: str = ""
    commands: list[str] = field(default_factory=list)

    def run(self, command: str, *args: str) -> Said:
        self.commands.append(command % args if args else command)
        return Said(self.answers[len(self.commands) - 1], self.rc, self.stderr)


def subject(**cluster: object) -> Subject:
    host = Host(name="m1", address="192.0.2.1", roles=("control-plane", "worker"))
    inventory = Inventory.model_validate({"cluster": cluster, "hosts": [host]})
    return Subject(host, inventory, builders.contents())


def pair(name: str) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), ec.generate_private_key(ec.SECP256R1())


def mint(name: str, ca: tuple[x509.Name, ec.EllipticCurvePrivateKey], begin: float, end: float) -> str:
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
    found = list(asking.certificate("x.crt", mint("leaf", CA, begin, end), ca))
    assert (not found) if complaint is None else (len(found) == 1 and complaint in found[0])


def test_a_certificate_of_another_ca_is_told() -> None:
    (found,) = asking.certificate("x.crt", mint("leaf", pair("other"), -1, 364), mint("ca", CA, -1, 3650))
    assert "not signed by its CA (CN=ca)" in found


def test_a_missing_certificate_is_told() -> None:
    (found,) = asking.certificate("x.crt", "", mint("ca", CA, -1, 3650))
    assert "not there" in found


def test_modes_and_owners_are_told_apart() -> None:
    seen = Answering(["600 root /a\n644 root /b\n600 nobody /d with blank\n"])
    wanted = dict.fromkeys(["/a", "/b", "/c", "/d with blank"], "600")
    assert [text.split(" ", 1)[0] for text in asking.modes(seen, wanted)] == ["/b", "/c", "/d"]


def test_names_are_unique_and_every_check_says_something() -> None:
    assert len(set(names())) == len(names())
    assert all(check.text for check in CATALOGUE)


def test_a_check_of_the_cluster_is_made_from_one_machine() -> None:
    hosts = [Host(name=f"m{i}", address=f"192.0.2.{i}", roles=("control-plane",)) for i in (1, 2)]
    inventory = Inventory(hosts=(Host(name="w", address="192.0.2.9", roles=("worker",)), *hosts))
    (check,) = [check for check in CATALOGUE if check.id == "nodes"]
    assert [host.name for host in inventory.hosts if check.applies(host, inventory, "m1")] == ["m1"]


def test_a_proxy_with_another_list_of_control_planes_is_told() -> None:
    masters = [
        {"name": f"m{i}", "address": f"m{i}", "nodeAddress": f"192.0.2.{i}", "roles": ["control-plane"]}
        for i in (1, 2, 3)
    ]
    worker = {"name": "w", "address": "w", "roles": ["worker"]}
    inventory = Inventory.model_validate({"hosts": [*masters, worker]})
    asked = Subject(inventory.hosts[-1], inventory, builders.contents())
    stale = "    server m1 192.0.2.1:6443\n    server m2 192.0.2.9:6443\n    server old 192.0.2.8:6443\n"
    found = list(on_machines.local_proxy(Answering([stale, "c1 1 RUNNING\n", "c1\n", ""]), asked))
    assert [text.split(": run")[0] for text in found] == [
        "/etc/kubernetes/kubestrap-proxy/haproxy.cfg lacks m3",
        "/etc/kubernetes/kubestrap-proxy/haproxy.cfg names old, of which there is none",
        "/etc/kubernetes/kubestrap-proxy/haproxy.cfg has 192.0.2.9:6443 for m2, whose address is 192.0.2.2",
    ]
    assert list(on_machines.local_proxy(Answering([]), subject())) == []


def test_a_taint_is_told_unless_it_says_what_a_condition_says() -> None:
    taints = [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "example.com/mine", "effect": "NoSchedule"},
    ]
    held = {"items": [{"metadata": {"name": "m1"}, "spec": {"taints": taints, "unschedulable": True}}]}
    assert list(in_cluster.node_taints(Answering([json.dumps(held)]), subject())) == [
        "m1 is cordoned",
        "m1 has the taint example.com/mine:NoSchedule, which is not in the inventory",
    ]


def behind_a_virtual_address(host: str, **planes: str) -> Subject:
    """Give a subject with three control planes; `planes` say what each answers to the question who holds it."""
    masters = [
        {"name": f"m{i}", "address": f"m{i}", "nodeAddress": f"192.0.2.{i}", "roles": ["control-plane"]}
        for i in (1, 2, 3)
    ]
    worker = {"name": "w", "address": "w", "roles": ["worker"]}
    cluster = {"endpoint": {"kind": "vip", "address": "192.0.2.100"}}
    inventory = Inventory.model_validate({"cluster": cluster, "hosts": [*masters, worker]})
    asked = next(each for each in inventory.hosts if each.name == host)
    sees = {name: partial(Answering, [""], rc=0 if answer == "holds" else 1) for name, answer in planes.items()}
    return Subject(asked, inventory, builders.contents(), sees)


def test_keepalived_with_other_peers_is_told() -> None:
    asked = behind_a_virtual_address("m1")
    stale = "unicast_peer {\n  192.0.2.9  # m2\n  192.0.2.8  # old\n}\n  192.0.2.100/32 dev eth0\n"
    path = "/etc/kubernetes/kubestrap-vip.conf"
    found = list(on_control_planes.keepalived(Answering([stale, "c1 1 RUNNING\n", "c2\n"]), asked))
    assert [text.split(": run")[0] for text in found] == [
        f"{path} has 192.0.2.9 for m2, whose address is 192.0.2.2",
        f"{path} lacks m3",
        f"{path} names old, of which there is none",
        "no container of kubestrap-vip runs",
    ]
    moved = stale.replace("192.0.2.9 ", "192.0.2.2 ").replace("192.0.2.8  # old", "192.0.2.3  # m3")
    assert list(on_control_planes.keepalived(Answering([moved, "c1 1 RUNNING\n", "c1\n"]), asked)) == []
    assert list(on_control_planes.keepalived(Answering([]), subject())) == []


@pytest.mark.parametrize(
    ("holding", "told"),
    [
        ({"m1": "holds", "m2": "", "m3": ""}, []),
        ({"m1": "", "m2": ""}, ["no control-plane host holds 192.0.2.100"]),
        (
            {"m1": "holds", "m2": "holds", "m3": ""},
            ["m1 and m2 hold 192.0.2.100 at once: VRRP (IP protocol 112) does not get from one to another"],
        ),
    ],
)
def test_a_virtual_address_is_held_by_one(holding: dict[str, str], told: list[str]) -> None:
    asked = behind_a_virtual_address("m1", **holding)
    assert list(in_cluster.virtual_address(Answering([]), asked)) == told


def test_the_endpoints_entry_is_the_virtual_address_on_workers_and_the_hosts_own_elsewhere() -> None:
    for name, address in (("w", "192.0.2.100"), ("m2", "192.0.2.2")):
        asked = behind_a_virtual_address(name)
        right = f"{address} api.kubernetes.cluster.local\n"
        assert list(on_machines.endpoint_entry(Answering([right]), asked)) == []
        (told,) = on_machines.endpoint_entry(Answering(["192.0.2.1 api.kubernetes.cluster.local\n"]), asked)
        assert told.endswith(f"not {address}")


def test_listening_sockets_and_their_holders_are_read_from_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # holds its port, and does not listen
        found = asking.listeners(machine(LocalHost("m1")))
        program = Path("/proc/self/comm").read_text().strip()
        assert found[listening.getsockname()[1]] == {program}
        assert bound.getsockname()[1] not in found


def test_a_patched_component_is_asked_where_its_manifest_says(tmp_path: Path) -> None:
    probe = "{httpGet: {host: 192.0.2.1, port: 20259, scheme: HTTP}}"
    (tmp_path / "kube-scheduler.yaml").write_text(
        f"spec: {{containers: [{{name: kube-scheduler, livenessProbe: {probe}}}]}}\n"
    )
    patched = subject(patches=builders.patches(tmp_path))
    machine = Answering([""])
    assert list(on_control_planes.scheduler_health(machine, patched)) == []
    assert "--server http://192.0.2.1:20259 get --raw /readyz" in machine.commands[0]
    assert "nobody listens on TCP port 20259" in list(on_machines.ports(Answering([""]), patched))


def test_each_port_is_held_against_its_component() -> None:
    rows = {10250: "kubelet", 10248: "kubelet", 6443: "nginx", 10256: "kube-proxy", 10257: "kube-controller"}
    rows |= {2379: "etcd", 2380: "etcd", 2381: "etcd"}
    text = "".join(f"{port:04X} {program}\n" for port, program in rows.items())
    assert list(on_machines.ports(Answering([text]), subject())) == ["nobody listens on TCP port 10259"]
    assert list(on_machines.port_owners(Answering([text]), subject())) == [
        "TCP port 6443 is nginx's, not kube-apiserver's"
    ]


def test_a_clock_that_is_certainly_apart_is_told() -> None:
    assert list(on_machines.clock(Answering([f"{time.time():.9f}\n"]), subject())) == []
    (found,) = on_machines.clock(Answering([f"{time.time() - 60:.9f}\n"]), subject())
    assert found.startswith("its clock is 60 s behind")


def test_a_database_of_etcd_that_is_nearly_full_is_told() -> None:
    # As etcd 3.6 answers, which gives numbers of 64 bits as text, and leaves out those that are 0.
    status = {"header": {"member_id": "17"}, "version": "3.6.5", "dbSize": str(90 << 20), "leader": "17"}
    full = json.dumps({**status, "dbSizeQuota": str(100 << 20)})
    roomy = json.dumps({**status, "dbSizeQuota": str(2 << 30)})
    assert list(on_control_planes.etcd_size(Answering([roomy]), subject())) == []
    (found,) = on_control_planes.etcd_size(Answering([full]), subject())
    assert "90 of 100 MiB" in found
    del status["leader"]
    assert list(on_control_planes.etcd_size(Answering([json.dumps(status)]), subject())) == ["there is no leader"]


def test_an_alarm_of_etcd_is_told() -> None:
    status: dict[str, object] = {"header": {"member_id": "17"}, "dbSize": "1", "leader": "17"}
    assert list(on_control_planes.etcd_alarms(Answering([json.dumps(status)]), subject())) == []
    status["errors"] = ["memberID:17 alarm:NOSPACE "]
    found = list(on_control_planes.etcd_alarms(Answering([json.dumps(status)]), subject()))
    (told,) = found
    assert told.startswith("11: alarm NOSPACE: ")
    assert "kubestrap etcd alarms disarm" in told


@pytest.mark.parametrize(
    ("begin", "end", "late"),
    [(-300, 65, False), (-350, 15, True), (-9.4, 0.6, False), (-9.6, 0.4, True)],
)
def test_a_kubelet_that_does_not_renew_its_certificate_is_told(begin: float, end: float, late: bool) -> None:
    seen = Answering(["rotateCertificates: true\n", mint("kubelet", CA, begin, end)])
    assert bool(list(on_machines.kubelet_rotation(seen, subject()))) == late


def test_only_restarts_that_are_recent_and_no_part_of_starting_are_told() -> None:
    now = datetime.datetime.now(datetime.UTC)

    def pod(name: str, started: int, ended: int) -> dict[str, object]:
        """One that started, and one of whose containers ended, so many minutes ago."""
        times = [f"{now - datetime.timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in (started, ended)]
        last = {"terminated": {"finishedAt": times[1], "reason": "Error", "exitCode": 1}}
        status = {"startTime": times[0], "containerStatuses": [{"name": "c", "lastState": last}]}
        return {"metadata": {"namespace": "kube-system", "name": name}, "status": status}

    pods = {"items": [pod("early", 5, 4), pod("old", 90, 60), pod("recent", 90, 5)]}
    (found,) = in_cluster.restarts(Answering([json.dumps(pods), json.dumps({"items": []})]), subject())
    assert found.startswith("kube-system/recent: c at ")


@pytest.mark.parametrize(
    ("node", "created", "changed", "young"), [(9, 9, 9, False), (1, 9, 9, True), (9, 1, 1, True), (9, 9, 1, True)]
)
def test_a_cluster_is_young_for_two_minutes_after_its_last_change(
    node: float, created: float, changed: float, young: bool
) -> None:
    now = datetime.datetime.now(datetime.UTC)

    def ago(minutes: float) -> str:
        return f"{now - datetime.timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"

    nodes = [{"metadata": {"name": "m1", "creationTimestamp": ago(node)}}]
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": ago(changed)}]
    pods = [{"metadata": {"creationTimestamp": ago(created)}, "status": {"conditions": conditions}}]
    answers = [{"items": nodes}, {"items": pods}, {"items": []}]
    assert in_cluster.is_young(Answering([json.dumps(answer) for answer in answers])) is young


@pytest.mark.parametrize(("patience", "fails"), [(0, True), (30, False)])
def test_only_what_settles_is_made_again_and_only_with_patience(patience: float, fails: bool) -> None:
    asked: list[str] = []

    def late(*_: object) -> Iterator[str]:
        asked.append("late")
        if asked.count("late") < 2:
            yield "not yet"

    def never(*_: object) -> Iterator[str]:
        asked.append("never")
        yield "wrong"

    waits: list[str] = []
    outcomes = settled(
        lambda: Answering([]),
        subject(),
        [Check("coredns", "all", "", late), Check("swap", "all", "", never)],
        patience,
        lambda host, what, *_: waits.append(f"{host}: {what}"),
    )
    assert [(outcome.check, bool(outcome.problems)) for outcome in outcomes] == [("coredns", fails), ("swap", True)]
    assert waits == ([] if fails else ["m1: coredns to pass"])
    assert asked.count("never") == 1


def test_what_is_named_as_settling_is_in_the_catalogue() -> None:
    assert set(names()) >= SETTLING


def test_what_differs_is_named_with_its_place() -> None:
    wanted = {"a": {"b": 1, "c": "1m"}, "d": [], "e": "x"}
    assert list(asking.unlike(wanted, {"a": {"b": 1, "c": "1m0s", "more": 2}, "e": "x"})) == []
    assert list(asking.unlike(wanted, {"a": {"b": 2, "c": "2m"}})) == [
        "a.b is 2, not 1",
        "a.c is '2m', not '1m'",
        "e is None, not 'x'",
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("192.0.2.1 api.kubernetes.cluster.local\n127.0.0.1 localhost\n", None),
        ("# 192.0.2.7 api.kubernetes.cluster.local\n192.0.2.1 x api.kubernetes.cluster.local\n", None),
        ("127.0.0.1 localhost\n", "is not in it"),
        ("192.0.2.1 api.kubernetes.cluster.local\n192.0.2.7 api.kubernetes.cluster.local\n", "192.0.2.1, 192.0.2.7"),
    ],
)
def test_a_stale_entry_for_the_endpoint_is_told(lines: str, told: str | None) -> None:
    found = list(on_machines.endpoint_entry(Answering([lines]), subject()))
    assert (found == []) if told is None else (told in found[0])


def test_an_entry_for_an_external_endpoint_leads_to_where_only_its_owner_knows() -> None:
    asked = subject(endpoint={"kind": "external", "name": "lb.example.com"})
    assert list(on_machines.endpoint_entry(Answering(["192.0.2.99 lb.example.com\n"]), asked)) == []


@pytest.mark.parametrize(("left", "told"), [(160, False), (140, True)])
def test_disks_are_held_against_the_kubelets_limits(left: int, told: bool) -> None:
    rows = "".join(
        f"/dev/vda 1000 {1000 - left} {left} 86% {place}\n" for place in ("/", "/", "/", "/", "/images", "/")
    )
    found = list(on_machines.disk_space(Answering([rows]), subject()))
    assert found == (["/images (/dev/vda), which holds /var/lib/containerd: 14 % left, under 15 %"] if told else [])
    eased = subject(kubelet={"config": {"evictionHard": {"imagefs.available": "5%"}}})
    assert list(on_machines.disk_space(Answering([rows]), eased)) == []


def test_nobody_is_refused_in_either_word() -> None:
    words = (
        "error: You must be logged in to the server (the server has asked for the client to provide credentials)",
        'Error from server (Forbidden): nodes is forbidden: User "system:anonymous" cannot list resource "nodes"',
    )
    for word in words:
        assert list(asking.refuses(Answering([""], rc=1, stderr=word), "https://x", "/y")) == []
    assert list(asking.refuses(Answering(["[]"]), "https://x", "/y")) == ["https://x/y is given to anybody"]
    (found,) = asking.refuses(Answering([""], rc=1, stderr="connection refused"), "https://x", "/y")
    assert "connection refused" in found


def test_a_machine_is_asked_each_thing_once() -> None:
    seen = Answering(["a", "b"])
    once = Remembering(seen)
    assert [once.run("x %s", "1").stdout, once.run("x %s", "2").stdout, once.run("x %s", "1").stdout] == ["a", "b", "a"]
    assert seen.commands == ["x 1", "x 2"]


def test_what_a_machine_could_not_be_asked_is_raised_for_everybody_who_asks() -> None:
    once = Remembering(Answering([]))
    for _ in range(2):
        with pytest.raises(IndexError):
            once.run("x")


def test_a_check_that_cannot_read_an_answer_has_failed() -> None:
    (check,) = [check for check in CATALOGUE if check.id == "clock"]
    outcome = made(Answering(["no such thing\n"]), subject(), check)
    assert outcome.problems[0].startswith("could not be checked: could not convert string to float")


def test_swap_is_no_matter_where_kubelets_bear_it() -> None:
    swaps = "Filename Type\n/dev/sda2 partition\n"
    assert list(on_machines.swap(Answering([swaps]), subject())) == ["in use: /dev/sda2"]
    assert list(on_machines.swap(Answering([swaps]), subject(kubelet={"config": {"failSwapOn": False}}))) == []


def test_several_cni_configurations_are_all_read() -> None:
    text = '{"name": "a", "plugins": [{"type": "bridge"}]}\n{"name": "b", "plugins": [{"type": "none"}]}\n'
    seen = Answering([text, "", ""])
    assert list(on_machines.cni_configuration(seen, subject())) == []
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

"""Labs themselves. Costs two to three minutes on a busy machine: six machines start, one more from a snapshot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import inventory, lab
from bootstrap.errors import UsageError
from bootstrap.lab import home, snapshots
from tests.lab.conftest import lab_of


@pytest.fixture(scope="module")
def pair() -> Iterator[lab.Lab]:
    """Two machines that the tests here share."""
    with lab_of("pair", machines=2) as made:
        yield made


@pytest.fixture(scope="module")
def single(pair: lab.Lab) -> Iterator[lab.Lab]:
    """One machine in a lab beside `pair`."""
    with lab_of("single", machines=1) as made:
        yield made


@pytest.mark.parametrize("user", ["root", "ops"])
def test_root_and_ops_log_in_to_every_machine_and_become_root(pair: lab.Lab, user: str) -> None:
    for machine in pair.machines:
        said = on(pair, machine.name, "id -un; sudo -n id -u; hostname", user=user)
        assert said.stdout.split() == [user, "0", machine.name]


def test_a_machine_with_another_host_key_is_refused(pair: lab.Lab, tmp_path: Path) -> None:
    first, second = pair.machines
    lines = pair.known_hosts_file.read_text().splitlines()
    keys = [line.partition(" ")[2] for line in lines if line.startswith(f"{second.address} ")]
    wrong = tmp_path / "known_hosts"
    wrong.write_text("".join(f"{first.address} {key}\n" for key in keys))
    command = [word.replace(str(pair.known_hosts_file), str(wrong)) for word in pair.ssh("cp1", "true")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in ended.stderr


def test_the_inventory_is_valid_and_logs_in_as_root_and_as_ops(pair: lab.Lab) -> None:
    read = inventory.load(pair.inventory)
    assert read.cluster.name == pair.name
    assert [(host.name, host.roles) for host in read.hosts] == [("cp1", ("control-plane",)), ("worker1", ("worker",))]
    assert [inventory.effective_ssh(read, host).user for host in read.hosts] == ["root", "ops"]


def test_machines_of_a_lab_reach_each_other(pair: lab.Lab) -> None:
    address = pair.machine("worker1").address
    assert on(pair, "cp1", f"bash -c 'head -c 4 < /dev/tcp/{address}/22'").stdout == "SSH-"


# 192.0.2.1 is reserved for documentation (RFC 5737): nobody has it, and no packet for it leaves this host.
@pytest.mark.parametrize("where", ["192.0.2.1 443", "{gateway} 22", "{neighbour} 22"])
def test_nothing_outside_of_the_lab_is_reached(pair: lab.Lab, single: lab.Lab, where: str) -> None:
    address, port = where.format(gateway=pair.subnet[1], neighbour=single.machines[0].address).split()
    said = on(pair, "cp1", f"timeout 60 bash -c ': < /dev/tcp/{address}/{port}'", check=False)
    assert said.returncode == 1, "neither reached, nor left without an answer"
    assert "refused" in said.stderr


def test_pods_and_services_addresses_are_kept_in_too(pair: lab.Lab) -> None:
    script = "ip address add 10.244.7.7/32 dev lo && curl --interface 10.244.7.7 --max-time 60 -sS http://192.0.2.1/"
    said = on(pair, "cp1", script, check=False)
    assert said.returncode == 7, said  # connection refused; 28 would be a time-out


def test_labs_side_by_side_have_subnets_and_keys_of_their_own(pair: lab.Lab, single: lab.Lab) -> None:
    assert not pair.subnet.overlaps(single.subnet)
    assert pair.identity_file.read_bytes() != single.identity_file.read_bytes()
    assert {pair.name, single.name} <= set(lab.names())


def test_a_single_machine_has_both_roles(single: lab.Lab) -> None:
    assert [machine.roles for machine in single.machines] == [("control-plane", "worker")]


def test_a_second_up_changes_nothing(pair: lab.Lab) -> None:
    before = state(pair)
    assert lab.up(pair.name) == pair
    assert state(pair) == before


def test_up_starts_what_is_stopped_and_closes_what_was_opened(pair: lab.Lab) -> None:
    before = pair.known_hosts_file.read_bytes()
    podman("stop", f"kubestrap-{pair.name}-worker1")
    subprocess.run(["nft", "delete", "table", "inet", f"kubestrap-{pair.name}"], check=True)
    lab.up(pair.name)
    assert set(lab.states(pair).values()) == {"running"}
    assert pair.known_hosts_file.read_bytes() == before
    said = on(pair, "worker1", "timeout 60 bash -c ': < /dev/tcp/192.0.2.1/443'", check=False)
    assert "refused" in said.stderr


def test_labs_do_not_shrink(pair: lab.Lab) -> None:
    with pytest.raises(UsageError, match="do not shrink"):
        lab.up(pair.name, machines=1)


def test_a_machine_from_a_snapshot_has_its_files_and_an_identity_of_its_own(single: lab.Lab) -> None:
    blob = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/0"
    on(single, "cp1", f"mkdir -p {blob} && echo prepared | tee /root/mark /var/lib/kubelet/mark {blob}/blob")
    snapshot = f"{single.name}-files"
    lab.save(single, "cp1", snapshot)
    try:
        with lab_of("clone", machines=1, snapshot=snapshot) as clone:
            files = f"cat /root/mark /var/lib/kubelet/mark {blob}/blob"
            assert on(clone, "cp1", files).stdout.split() == ["prepared"] * 3
            for identity in ("cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub"):
                assert on(clone, "cp1", identity).stdout != on(single, "cp1", identity).stdout
            on(clone, "cp1", f"rm {blob}/blob && echo changed > /var/lib/kubelet/mark")
            assert on(single, "cp1", files).stdout.split() == ["prepared"] * 3
    finally:
        snapshots.remove(snapshot)
    assert snapshot not in snapshots.names()


def test_a_snapshot_that_is_not_there_is_told(single: lab.Lab) -> None:
    name = f"{single.name}-none"
    try:
        with pytest.raises(UsageError, match="there is no snapshot"):
            lab.up(name, machines=1, snapshot="never-made")
    finally:
        lab.down(name)


def test_down_leaves_nothing() -> None:
    with lab_of("gone", machines=1) as made:
        on(made, "cp1", "true")
        assert traces(made.name)
        assert kubestrap("lab", "down", "--name", made.name).returncode == 0
        assert traces(made.name) == []
        assert made.name not in lab.names()


def test_down_takes_away_what_is_left_of_a_lab_broken_by_hand() -> None:
    with lab_of("broken", machines=2) as made:
        podman("rm", "--force", "--time=0", f"kubestrap-{made.name}-cp1")
        (made.folder / "lab.json").unlink()
        assert lab.down(made.name)
        assert traces(made.name) == []
        assert not lab.down(made.name)


def test_the_command_shows_machines_and_logs_in(pair: lab.Lab) -> None:
    shown = kubestrap("lab", "status", "--name", pair.name)
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        [pair.name, "cp1", pair.machines[0].address, "control-plane", "running"],
        [pair.name, "worker1", pair.machines[1].address, "worker", "running"],
    ]
    said = kubestrap("lab", "ssh", "--name", pair.name, "worker1", "--", "id", "-un")
    assert (said.returncode, said.stdout) == (0, "ops\n")


def kubestrap(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does; give how it ended, whatever its exit code."""
    command = [sys.executable, "-m", "bootstrap", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def on(
    where: lab.Lab, machine: str, script: str, *, user: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `script` on a machine, by OpenSSH's own client."""
    command = where.ssh(machine, script, user=user)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert not check or ended.returncode == 0, ended.stderr
    return ended


def podman(*arguments: str) -> str:
    return subprocess.run(
        ["podman", "--runtime", "runc", *arguments], capture_output=True, text=True, timeout=240, check=True
    ).stdout


def state(of: lab.Lab) -> object:
    """Everything of a lab that an `up` could change: when each file and machine was made, and started."""
    containers = json.loads(podman("ps", "--all", "--filter", f"label=kubestrap.lab={of.name}", "--format", "json"))
    files = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in of.folder.iterdir()}
    rules = subprocess.run(["nft", "-a", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    mine = rules.partition(f"table inet kubestrap-{of.name} ")[2].partition("\n}\n")[0]
    assert mine
    return [(one["Id"], one["State"], one["StartedAt"]) for one in containers], files, mine


def traces(name: str) -> list[str]:
    """List whatever on this host bears the lab's name."""
    own = f"kubestrap-{name}"
    listed = [
        *podman("ps", "--all", "--format", "{{.Names}}").splitlines(),
        *podman("volume", "ls", "--quiet").splitlines(),
        *podman("network", "ls", "--format", "{{.Name}}").splitlines(),
        *(path.name for path in Path("/var/lib/cni/networks").glob("*")),
    ]
    for command in (["nft", "list", "tables"], ["iptables-save"]):
        listed += subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if own in line] + [str(path) for path in home.root().glob(name)]

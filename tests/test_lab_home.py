from __future__ import annotations

import subprocess
import threading
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bootstrap import inventory
from bootstrap.errors import LabError, UsageError
from bootstrap.lab import home, labs
from bootstrap.lab.home import Design
from bootstrap.lab.labs import Lab

SUBNET = IPv4Network("10.89.3.0/24")


@pytest.mark.parametrize("machines", [1, 2, 5])
def test_the_inventory_of_a_lab_is_valid(tmp_path: Path, machines: int) -> None:
    layout = home.layout(Design(1, machines - 1), SUBNET)
    file = tmp_path / "inventory.yaml"
    file.write_text(home.inventory_text("demo", layout, tmp_path))
    read = inventory.load(file)
    inventory.require_supported(read)
    assert [host.address for host in read.hosts] == [machine.address for machine in layout]
    assert read.cluster.name == "demo"
    assert read.ssh.identity_file == str(tmp_path / "id_ed25519")


def test_a_lab_that_grows_keeps_names_and_addresses() -> None:
    small, large = home.layout(Design(1, 1), SUBNET), home.layout(Design(3, 4), SUBNET)
    assert set(small) < set(large)
    assert len({machine.address for machine in large}) == 7


def test_the_largest_lab_fits_in_its_subnet() -> None:
    layout = home.layout(Design(home.MOST_CONTROL_PLANES, home.MOST_WORKERS), SUBNET)
    assert len({machine.address for machine in layout}) == len(layout)


@pytest.mark.parametrize("name", ["lab", "a", "my-lab-2", "x" * home.LONGEST_NAME])
def test_good_names_pass(name: str) -> None:
    home.check_name(name)


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "lab-", "a_b", "a--b", "../x", "x" * (home.LONGEST_NAME + 1)])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a lab"):
        home.check_name(name)


def test_the_key_is_one_that_openssh_reads_and_stays_the_same(tmp_path: Path) -> None:
    public = home.public_key(tmp_path)
    assert home.public_key(tmp_path) == public
    assert (tmp_path / "id_ed25519").stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(
        ["ssh-keygen", "-y", "-f", tmp_path / "id_ed25519"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split()[:2] == public.split()[:2]


def test_known_hosts_has_each_key_of_each_machine() -> None:
    machines = home.layout(Design(1, 1), SUBNET)
    keys = {"cp1": ("ssh-rsa AAA root@cp1", "ssh-ed25519 BBB root@cp1"), "worker1": ("ssh-ed25519 CCC root@worker1",)}
    assert home.known_hosts_text(machines, keys).splitlines() == [
        "10.89.3.11 ssh-ed25519 BBB",
        "10.89.3.11 ssh-rsa AAA",
        "10.89.3.101 ssh-ed25519 CCC",
    ]


def test_a_design_is_kept(tmp_path: Path) -> None:
    assert home.design(tmp_path) is None
    home.keep_design(tmp_path, Design(1, 2, "prepared"))
    assert home.design(tmp_path) == Design(1, 2, "prepared")


@pytest.mark.parametrize("text", ["", "[]", '{"machines": 3}'])
def test_a_damaged_design_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json cannot be read"):
        home.design(tmp_path)


def test_a_file_that_is_right_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    home.write(file, "text")
    before = file.stat()
    home.write(file, "text")
    assert file.stat().st_ino == before.st_ino
    home.write(file, "other")
    assert file.read_text() == "other"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_runs_on_one_lab_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    order = []

    def second() -> None:
        with home.claimed("demo") as path:
            order.append(("second", path.is_dir()))

    with home.claimed("demo") as path:
        other = threading.Thread(target=second)
        other.start()
        other.join(0.3)
        order.append(("first", path.is_dir()))
        home.remove(path)
    other.join(60)
    assert order == [("first", True), ("second", True)]


def test_removing_the_last_lab_leaves_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with home.claimed("demo") as path:
        assert home.labs() == ["demo"]
        home.remove(path)
    assert list(tmp_path.iterdir()) == []
    assert home.labs() == []


@pytest.mark.parametrize(
    ("old", "machines", "control_planes", "expected"),
    [
        (None, None, None, Design(1, 2)),
        (None, 1, None, Design(1, 0)),
        (None, None, 3, Design(3, 0)),
        (None, 5, 3, Design(3, 2)),
        (Design(1, 4), None, None, Design(1, 4)),
        (Design(1, 0), 3, None, Design(1, 2)),
        (Design(1, 1, "kept"), 3, None, Design(1, 2, "kept")),
    ],
)
def test_a_lab_has_the_size_asked_for_or_the_one_it_had(
    old: Design | None, machines: int | None, control_planes: int | None, expected: Design
) -> None:
    assert labs.sized(old, "demo", machines, control_planes, None) == expected


@pytest.mark.parametrize(("machines", "control_planes"), [(2, 3), (10, 10), (102, 1)])
def test_sizes_that_a_lab_cannot_have_are_refused(machines: int, control_planes: int) -> None:
    with pytest.raises(UsageError, match="cannot have"):
        labs.sized(None, "demo", machines, control_planes, None)


def test_a_lab_that_would_shrink_is_refused() -> None:
    with pytest.raises(UsageError, match="kubestrap lab down --name demo"):
        labs.sized(Design(1, 2), "demo", 2, None, None)


def test_the_ssh_command_trusts_the_lab_s_keys_alone(tmp_path: Path) -> None:
    lab = Lab("demo", tmp_path, SUBNET, home.layout(Design(1, 1), SUBNET))
    words = lab.ssh("worker1", "id")
    assert words[-3:] == ["ops@10.89.3.101", "--", "id"]
    assert "StrictHostKeyChecking=yes" in words
    assert f"UserKnownHostsFile={tmp_path / 'known_hosts'}" in words


def test_an_unknown_machine_is_told_with_those_there_are(tmp_path: Path) -> None:
    lab = Lab("demo", tmp_path, SUBNET, home.layout(Design(1, 1), SUBNET))
    with pytest.raises(UsageError, match="it has cp1, worker1"):
        lab.ssh("cp2")

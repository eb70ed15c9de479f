from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.errors import LabUnavailable
from bootstrap.lab import needs

EVERYTHING = (1 << 41) - 1


def lacking(
    *absent: str, uid: int = 0, capabilities: int = EVERYTHING, paths: tuple[str, ...] = needs.NETWORK_TOOLS
) -> list[str]:
    def find(tool: str) -> str | None:
        return None if tool in absent else f"/usr/bin/{tool}"

    return needs.lacking(find, paths.__contains__, uid=uid, capabilities=capabilities)


def test_a_host_with_everything_lacks_nothing() -> None:
    assert lacking() == []


def test_one_of_podman_s_network_tools_is_enough() -> None:
    assert lacking(paths=needs.NETWORK_TOOLS[1:2]) == []


def test_all_missing_packages_are_named_in_one_command() -> None:
    (line,) = lacking("podman", "nft", paths=())
    assert line.endswith("apt-get install podman nftables containernetworking-plugins")


def test_missing_packages_and_missing_root_are_told_together() -> None:
    packages, root = lacking("runc", uid=1000, capabilities=0)
    assert "apt-get install runc" in packages
    assert "sudo" in root


def test_root_without_its_powers_is_told_which() -> None:
    (line,) = lacking(capabilities=EVERYTHING & ~(1 << 21))
    assert line.startswith("root lacks CAP_SYS_ADMIN here")


def test_the_error_is_one_message_with_everything() -> None:
    error = LabUnavailable(["packages are missing", "root is needed"])
    assert str(error).splitlines()[1:] == ["  packages are missing", "  root is needed"]
    assert error.exit_code == 3


@pytest.mark.parametrize(("status", "bits"), [("Name:\tsh\nCapEff:\t0000000000000021\n", 0x21), ("Name:\tsh\n", 0)])
def test_effective_capabilities_are_read(status: str, bits: int) -> None:
    assert needs.effective_capabilities(status) == bits


def test_a_low_limit_of_watchers_is_raised_and_a_higher_one_left(tmp_path: Path) -> None:
    limit = tmp_path / "limit"
    limit.write_text("128\n")
    assert needs.allow_watchers(limit)
    assert int(limit.read_text()) == needs.ENOUGH_WATCHERS
    limit.write_text("100000\n")
    assert not needs.allow_watchers(limit)
    assert limit.read_text() == "100000\n"


def test_a_limit_that_labs_raised_is_told_when_they_are_gone(tmp_path: Path) -> None:
    limit = tmp_path / "limit"
    limit.write_text("128\n")
    assert needs.watchers_kept(limit) == ""
    needs.allow_watchers(limit)
    assert "stays 8192 until the next boot" in needs.watchers_kept(limit)
    limit.write_text("100000\n")
    assert needs.watchers_kept(limit) == ""


def test_a_limit_that_cannot_be_raised_is_told_with_the_command_that_does(tmp_path: Path) -> None:
    with pytest.raises(LabUnavailable, match=r"sysctl -w fs\.inotify\.max_user_instances=8192"):
        needs.allow_watchers(tmp_path / "missing")

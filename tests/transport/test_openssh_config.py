"""The inventory's settings over ~/.ssh/config over OpenSSH's defaults."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from bootstrap import spec
from bootstrap.errors import ConfigError
from bootstrap.transport.openssh_config import Login, login


def settle(home: Path, config: str = "", *, address: str = "m1", defaults: object = None, **ssh: object) -> Login:
    (home / ".ssh/config").write_text(config)
    host = spec.Host(name="m1", address=address, roles=("worker",), ssh=spec.HostSsh.model_validate(ssh))
    return login(spec.Inventory(hosts=(host,), ssh=spec.Ssh.model_validate(defaults or {})), host)


def test_without_any_setting_openssh_defaults_hold(home: Path) -> None:
    found = settle(home)
    assert (found.address, found.port, found.user, found.jumps) == ("m1", 22, getpass.getuser(), ())
    assert found.identity_files == tuple(home / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
    assert found.known_hosts_files[:2] == (home / ".ssh/known_hosts", home / ".ssh/known_hosts2")
    assert Path("/etc/ssh/ssh_known_hosts") in found.known_hosts_files


def test_what_the_inventory_leaves_open_comes_from_the_users_configuration(home: Path) -> None:
    found = settle(
        home,
        "Host m1\n HostName 10.0.0.1\n User admin\n Port 2222\n IdentityFile ~/.ssh/lab\n IdentitiesOnly yes\n"
        " ConnectTimeout 1m30s\n UserKnownHostsFile ~/.ssh/lab_hosts %d/%h\n HostKeyAlias lab\n",
    )
    assert (found.address, found.user, found.port, found.connect_seconds) == ("10.0.0.1", "admin", 2222, 90.0)
    assert (found.identity_files, found.identities_only) == ((home / ".ssh/lab",), True)
    assert found.known_hosts_files[:2] == (home / ".ssh/lab_hosts", home / "10.0.0.1")
    assert found.known_as == "lab"


def test_the_inventory_wins_over_the_users_configuration(home: Path) -> None:
    found = settle(
        home,
        "Host *\n User admin\n Port 2222\n IdentityFile ~/a\n ConnectTimeout 90\n ProxyJump bastion\n",
        user="root",
        port=22,
        identity_file="/b",
        known_hosts_file="/c",
        connect_timeout="5s",
        proxy_jump="none",
    )
    assert (found.user, found.port, found.connect_seconds, found.jumps) == ("root", 22, 5.0, ())
    assert (found.identity_files, found.known_hosts_files) == ((Path("/b"),), (Path("/c"),))


def test_a_connect_timeout_that_nobody_set_is_ten_seconds(home: Path) -> None:
    assert settle(home).connect_seconds == 10.0


def test_included_files_count_where_they_stand(home: Path) -> None:
    (home / ".ssh/conf.d").mkdir()
    (home / ".ssh/conf.d/one").write_text("Host m1\n User included\n")
    found = settle(home, "Include conf.d/*\nPort 2222\nHost m1\n User later\n")
    assert (found.user, found.port) == ("included", 2222)


def test_jump_hosts_take_their_own_settings_and_the_inventorys_key(home: Path) -> None:
    found = settle(
        home,
        "Host bastion\n HostName 192.0.2.1\n User jumper\n ProxyJump outer\nHost outer\n Port 2200\n",
        proxy_jump="bastion,admin@inner:2022",
        identity_file="/key",
    )
    assert [(hop.address, hop.port, hop.user) for hop in found.jumps] == [
        ("outer", 2200, getpass.getuser()),
        ("192.0.2.1", 22, "jumper"),
        ("inner", 2022, "admin"),
    ]
    assert {hop.identity_files for hop in found.jumps} == {(Path("/key"),)}


def test_jump_hosts_that_point_at_each_other_are_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="do they point at each other"):
        settle(home, "Host a\n ProxyJump b\nHost b\n ProxyJump a\n", proxy_jump="a")


def test_a_proxy_command_is_filled_in_with_what_holds_in_the_end(home: Path) -> None:
    config = "Host m1\n HostName 192.0.2.1\n ProxyCommand ~/way %r@%h:%p %n '100%%'\n"
    found = settle(home, config, user="admin", port=2222)
    assert found.proxy_command == f"{home}/way admin@192.0.2.1:2222 m1 '100%'"
    assert settle(home, config, proxy_jump="none").proxy_command == ""
    assert settle(home, config, proxy_jump="bastion").proxy_command == ""
    assert settle(home, "Host m1\n ProxyCommand none\n").proxy_command == ""


def test_a_configuration_that_cannot_be_read_names_the_file(home: Path) -> None:
    with pytest.raises(ConfigError, match=f"{home}/.ssh/config cannot be used"):
        settle(home, "Host m1\n Port\n")

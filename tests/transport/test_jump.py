"""Machines behind real jump hosts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import DEFAULTS, Server, both, inventory, keygen, processes_with, public, running

from bootstrap import spec
from bootstrap.connections import connected
from bootstrap.errors import HostKeyRefused, Unreachable
from bootstrap.transport.ssh import JumpHosts, connect
from tests.tcpproxy import Proxy

LIMIT = 120.0


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("bastion"), "MaxStartups 2") as one:
        yield one


def behind(server: Server, *bastions: tuple[Server, int], name: str = "m1") -> spec.Host:
    """A host behind jump hosts, each reached at a port of its own; one key and one known_hosts file for all."""
    folder = server.folder / name
    folder.mkdir(exist_ok=True)
    key = bastions[0][0].user_key if bastions else server.user_key
    for each in (server, *(one for one, _ in bastions)):
        authorized = each.folder / "authorized_keys"
        if public(key) not in authorized.read_text():
            authorized.write_text(authorized.read_text() + public(key) + "\n")
    lines = [f"[127.0.0.1]:{server.port} {public(server.host_key)}"]
    lines += [f"[127.0.0.1]:{port} {public(one.host_key)}" for one, port in bastions]
    (folder / "known_hosts").write_text("\n".join(lines) + "\n")
    jump = ",".join(f"root@127.0.0.1:{port}" for _, port in bastions)
    host = server.host(identity_file=str(key), known_hosts_file=str(folder / "known_hosts"), proxy_jump=jump)
    return host.model_copy(update={"name": name})


@both
def test_a_host_behind_a_jump_host_is_reached(server: Server, bastion: Server) -> None:
    host = behind(server, (bastion, bastion.port))
    with connect(inventory(host), host) as connected:
        assert connected.run("cat", stdin=b"x" * 3_000_000, seconds=LIMIT).stdout == b"x" * 3_000_000


@both
def test_a_host_behind_two_jump_hosts_is_reached(server: Server, bastion: Server, tmp_path: Path) -> None:
    with running(tmp_path / "inner") as inner:
        host = behind(server, (bastion, bastion.port), (inner, inner.port))
        with JumpHosts() as jumps, connect(inventory(host), host, jumps=jumps) as connected:
            assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"


def test_twelve_hosts_at_once_share_one_connection_to_a_jump_host(
    server: Server, bastion: Server, backend: str
) -> None:
    results: list[bytes] = []
    with Proxy(bastion.port) as proxy, JumpHosts() as jumps:
        first = behind(server, (bastion, proxy.port))  # the key is in place before they start

        def work(number: int) -> None:
            # a process of ssh is shared by those who know the jump host by the same files
            host = first if backend == "openssh" else behind(server, (bastion, proxy.port), name=f"m{number}")
            with connect(inventory(host), host, jumps=jumps) as connected:
                results.append(connected.run("echo done", seconds=LIMIT).stdout)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [b"done\n"] * 12
        assert proxy.accepted == 1


@both
def test_f9_a_jump_host_that_drops_connections_is_tried_again(server: Server, bastion: Server) -> None:
    with Proxy(bastion.port, drop_first=2) as proxy:
        host = behind(server, (bastion, proxy.port))
        with connect(inventory(host), host) as connected:
            assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"


@both
def test_an_unreachable_jump_host_is_tried_once_and_named_for_every_host(server: Server, bastion: Server) -> None:
    with Proxy(bastion.port) as proxy:
        port = proxy.port
    with JumpHosts() as jumps:
        for name in ("m1", "m2"):
            host = behind(server, (bastion, port), name=name)
            with pytest.raises(Unreachable, match=f"^{name}: jump host 127.0.0.1: 127.0.0.1 port {port} refuses"):
                connect(inventory(host), host, jumps=jumps)


@both
def test_a_jump_hosts_unknown_key_is_refused_as_its_own(server: Server, bastion: Server) -> None:
    host = behind(server, (bastion, bastion.port))
    file = Path(host.ssh.known_hosts_file or "")
    file.write_text(file.read_text().splitlines()[0] + "\n")
    with pytest.raises(HostKeyRefused, match=r"^m1: jump host 127.0.0.1: its host key .* is unknown"):
        connect(inventory(host), host)


@both
def test_a_hosts_own_key_is_checked_behind_a_jump_host(server: Server, bastion: Server, tmp_path: Path) -> None:
    host = behind(server, (bastion, bastion.port))
    file = Path(host.ssh.known_hosts_file or "")
    stranger = public(keygen(tmp_path / "stranger"))
    file.write_text(f"[127.0.0.1]:{server.port} {stranger}\n" + file.read_text().splitlines()[1] + "\n")
    with pytest.raises(HostKeyRefused, match=r"^m1: its host key has changed"):
        connect(inventory(host), host)


@both
def test_a_machine_that_the_jump_host_cannot_reach_is_unreachable(server: Server, bastion: Server) -> None:
    host = behind(server, (bastion, bastion.port))
    with Proxy(server.port) as proxy:
        port = proxy.port
    host = host.model_copy(update={"ssh": host.ssh.model_copy(update={"port": port})})
    with pytest.raises(Unreachable, match=f"jump host 127.0.0.1: it cannot connect to 127.0.0.1 port {port}: it says"):
        connect(inventory(host), host)


@pytest.mark.parametrize("place", ["host", "jump host"])
@both
def test_a_proxy_command_is_the_way_and_ends_with_the_connection(
    server: Server, bastion: Server, home: Path, place: str
) -> None:
    first = behind(server, (bastion, bastion.port))  # the bastion's key opens both
    config = home / "proxy_config"
    config.write_text(
        f"Port {bastion.port}\nIdentityFile {bastion.user_key}\nUserKnownHostsFile {first.ssh.known_hosts_file}\n"
    )
    block = "Host 127.0.0.1\n" if place == "host" else "Host way\n HostName 127.0.0.1\n"
    command = f"ssh -F {config} -W %h:%p root@127.0.0.1"
    (home / ".ssh/config").write_text(f"{block} ProxyCommand {command}\n")
    jump = None if place == "host" else f"root@way:{server.port}"
    host = first.model_copy(update={"ssh": first.ssh.model_copy(update={"proxy_jump": jump})})
    with connect(inventory(host), host) as connected:
        assert connected.run("cat", stdin=b"x" * 300_000, seconds=LIMIT).stdout == b"x" * 300_000
        assert processes_with(str(config))
    for _ in range(600):
        if not processes_with(str(config)):
            break
        time.sleep(0.1)
    assert processes_with(str(config)) == []


@both
def test_a_proxy_command_that_fails_is_told_in_its_words(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootstrap.transport.session._BANNER_ATTEMPTS", 2)
    (home / ".ssh/config").write_text("ProxyCommand sh -c 'echo no way to %h >&2; exit 1'\n")
    host = server.host()
    with pytest.raises(Unreachable, match=r"^m1: the ProxyCommand ended 2 times .* last words: no way to 127.0.0.1"):
        connect(inventory(host), host)


@both
def test_f9_a_hundred_hosts_behind_one_jump_host_are_all_reached_with_openssh_defaults(tmp_path: Path) -> None:
    """One server stands for all hosts, and so drops more connections than a hundred of them would."""
    everywhere = "ListenAddress 0.0.0.0"
    with running(tmp_path / "bastion") as jump, running(tmp_path / "machines", everywhere) as machines:
        (machines.folder / "authorized_keys").write_text(public(jump.user_key) + "\n")
        known = tmp_path / "known_hosts"
        lines = [f"[127.0.0.1]:{jump.port} {public(jump.host_key)}"]
        lines += [f"[127.0.1.*]:{machines.port} {public(machines.host_key)}"]
        known.write_text("\n".join(lines) + "\n")
        way = machines.host(
            identity_file=str(jump.user_key), known_hosts_file=str(known), proxy_jump=f"root@127.0.0.1:{jump.port}"
        )
        hosts = tuple(
            way.model_copy(update={"name": f"m{number}", "address": f"127.0.1.{number}"}) for number in range(1, 101)
        )
        read = spec.Inventory(hosts=hosts, ssh=spec.Ssh.model_validate({**DEFAULTS, "connect_timeout": "60s"}))
        with connected(read, hosts) as connections:
            assert connections.failures == {}
            assert len(connections.hosts) == 100
            assert connections.hosts["m100"].run("echo done", seconds=LIMIT).stdout == b"done\n"


@both
def test_a_jump_host_that_forbids_forwarding_is_said_to_do_so(server: Server, tmp_path: Path) -> None:
    with running(tmp_path / "strict", "AllowTcpForwarding no") as strict:
        host = behind(server, (strict, strict.port))
        with pytest.raises(Unreachable, match=r"jump host 127.0.0.1: it cannot connect .* its sshd forbids it"):
            connect(inventory(host), host)

"""Host keys: looked at, written down, accepted, pinned; and where settings come from."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sshd import Server, both, inventory, keygen, public, running

from bootstrap import cli, spec
from bootstrap.errors import HostKeyRefused
from bootstrap.transport.openssh_config import explain
from bootstrap.transport.ssh import connect

LIMIT = 120.0
KINDS = ("ed25519", "ecdsa", "rsa")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    return {kind: keygen(folder / kind, kind) for kind in KINDS}


@pytest.fixture
def three(tmp_path: Path, keys: dict[str, Path]) -> Iterator[Server]:
    """A server with a host key of each kind, of which nothing is known."""
    with running(tmp_path / "sshd", host_keys=list(keys.values())) as server:
        server.known_hosts.unlink()
        yield server


def fingerprint(key: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True).stdout.split()[1]


def written(folder: Path, *hosts: spec.Host) -> Path:
    file = folder / "inventory.yaml"
    data = spec.Inventory(hosts=hosts).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    data |= {"apiVersion": "kubestrap.io/v1alpha1", "kind": "Inventory"}
    file.write_text(json.dumps(data))
    return file


class Scan:
    """`kubestrap hosts scan` of some hosts, again and again."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], *hosts: spec.Host) -> None:
        hosts = (hosts[0].model_copy(update={"roles": ("control-plane",)}), *hosts[1:])
        self._file = written(folder, *hosts)
        self._capsys = capsys
        self.told = ""

    def __call__(self, *options: str) -> tuple[int, dict[str, Any]]:
        code = cli.run(["hosts", "scan", "-i", str(self._file), "--output", "json", *options])
        out, self.told = self._capsys.readouterr()
        events = [json.loads(line) for line in out.splitlines()]
        self.told += " ".join(event.get("text", "") for event in events)
        (result,) = (event["data"] for event in events if event["event"] == "result")
        return code, result


def keys_of(result: dict[str, Any], host: str) -> dict[str, tuple[str, str]]:
    (one,) = (each for each in result["hosts"] if each["host"] == host)
    return {key["type"]: (key["state"], key["fingerprint"]) for key in one["keys"]}


def test_a_scan_shows_every_key_and_writes_it_when_told(
    three: Server, keys: dict[str, Path], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".ssh/config").write_text("HashKnownHosts no\n")  # Debian's own file says yes
    file = tmp_path / "new/known_hosts"
    host = three.host(known_hosts_file=str(file))
    scan = Scan(tmp_path, capsys, host)
    expected = {public(key).split()[0]: fingerprint(key) for key in keys.values()}
    code, result = scan()
    assert (code, file.exists()) == (0, False)
    assert keys_of(result, "m1") == {kind: ("unknown", shown) for kind, shown in expected.items()}
    assert "kubestrap hosts scan --write" in scan.told

    assert scan("--write")[0] == 0
    lines = [f"[127.0.0.1]:{three.port} {public(key)}" for key in keys.values()]
    assert sorted(file.read_text().splitlines()) == sorted(lines)
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    code, result = scan("--write")
    assert keys_of(result, "m1") == {kind: ("known", shown) for kind, shown in expected.items()}
    assert len(file.read_text().splitlines()) == 3
    with connect(inventory(host), host) as connected:
        assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"
    assert "Accepted" in three.log()


def test_f8_a_scan_never_writes_a_changed_key(
    three: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"[127.0.0.1]:{three.port} {public(keygen(tmp_path / 'other'))}\n"
    three.known_hosts.write_text(line)
    scan = Scan(tmp_path, capsys, three.host())
    code, result = scan("--write")
    assert code == HostKeyRefused.exit_code
    assert {kind: state for kind, (state, _) in keys_of(result, "m1").items()} == {
        "ssh-ed25519": "changed",
        "ecdsa-sha2-nistp256": "unknown",
        "ssh-rsa": "unknown",
    }
    assert f"{three.known_hosts}:1 has ssh-ed25519" in scan.told
    assert three.known_hosts.read_text() == line


def test_jump_hosts_are_scanned_before_what_is_behind_them(
    three: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    with running(tmp_path / "bastion") as bastion:
        (three.folder / "authorized_keys").write_text(public(bastion.user_key) + "\n")
        host = three.host(
            proxy_jump=f"root@127.0.0.1:{bastion.port}", identity_file=str(bastion.user_key), backend=backend
        )
        scan = Scan(tmp_path, capsys, host)
        name = f"jump host root@127.0.0.1:{bastion.port}"
        code, result = scan()
        assert code != 0
        assert keys_of(result, name) == {"ssh-ed25519": ("unknown", fingerprint(bastion.host_key))}
        assert result["failed"] == ["m1"]
        code, result = scan("--write")
        assert (code, [each["host"] for each in result["hosts"]]) == (0, [name, "m1"])
        with connect(inventory(host), host) as connected:
            assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"


@pytest.mark.parametrize("how", ["inventory", "configuration"])
@both
def test_a_new_key_is_accepted_when_told_and_a_changed_one_never(three: Server, home: Path, how: str) -> None:
    (home / ".ssh/config").write_text(
        "HashKnownHosts yes\n" + ("StrictHostKeyChecking accept-new\n" if how == "configuration" else "")
    )
    three.known_hosts.write_text("# without a newline at its end")
    host = three.host(accept_new_host_keys=True if how == "inventory" else None)
    outputs: list[bytes] = []

    def work() -> None:
        with connect(inventory(host), host) as connected:
            outputs.append(connected.run("echo done", seconds=LIMIT).stdout)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == [b"done\n"] * 6
    assert len(three.known_hosts.read_text().splitlines()) == 2
    name = f"[127.0.0.1]:{three.port}"
    found = subprocess.run(["ssh-keygen", "-F", name, "-f", three.known_hosts], capture_output=True, check=True)
    assert b"found: line 2" in found.stdout
    assert name not in three.known_hosts.read_text()

    three.known_hosts.write_text(f"{name} {public(keygen(home / 'other'))}\n")
    with pytest.raises(HostKeyRefused, match="has changed"):
        connect(inventory(host), host)


@both
def test_a_key_that_cannot_be_written_down_is_not_accepted(three: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    host = three.host(accept_new_host_keys=True, known_hosts_file=str(tmp_path / "file/known_hosts"))
    with pytest.raises(HostKeyRefused, match="cannot be added to"):
        connect(inventory(host), host)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["key", "fingerprint"])
@both
def test_a_pinned_key_counts_whatever_the_files_say(
    three: Server, keys: dict[str, Path], tmp_path: Path, kind: str, form: str
) -> None:
    name = f"[127.0.0.1]:{three.port}"
    three.known_hosts.write_text(f"{name} {public(keygen(tmp_path / 'other'))}\n")
    key = keys[kind]
    host = three.host(host_key=public(key) if form == "key" else fingerprint(key))
    with connect(inventory(host), host) as connected:
        assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"
    three.known_hosts.write_text(f"@revoked {name} {public(key)}\n")
    with pytest.raises(HostKeyRefused, match="is revoked"):
        connect(inventory(host), host)


@pytest.mark.parametrize("form", ["key", "fingerprint"])
@both
def test_f8_another_key_than_the_pinned_one_is_refused(
    three: Server, keys: dict[str, Path], tmp_path: Path, form: str
) -> None:
    three.known_hosts.write_text("".join(f"[127.0.0.1]:{three.port} {public(key)}\n" for key in keys.values()))
    other = keygen(tmp_path / "other")
    host = three.host(host_key=public(other) if form == "key" else fingerprint(other), accept_new_host_keys=True)
    with pytest.raises(
        HostKeyRefused, match=f"not the one in the inventory: .* hostKey is {re.escape(fingerprint(other))}"
    ):
        connect(inventory(host), host)
    assert "Accepted" not in three.log()


def test_every_setting_is_told_with_its_source(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".ssh/more").write_text("Host *\n  IdentityAgent /agent\n")
    (home / ".ssh/config").write_text(
        "# mine\nHost m1\n  HostName 192.0.2.1\n  IdentityFile ~/a\n  IdentityFile ~/b\nInclude more\n"
        "Match user admin\n  ProxyJump bastion\nHost *\n  Port 2222\n  User nobody\n"
    )
    host = spec.Host(name="node1", address="m1", roles=("worker",), ssh=spec.HostSsh(connect_timeout="7s"))
    read = spec.Inventory(hosts=(host,), ssh=spec.Ssh(user="admin"))
    told = {setting.name: (setting.value, setting.source) for setting in explain(read, host)}
    assert told["HostName"] == ("192.0.2.1", "~/.ssh/config:3")
    assert told["Port"] == ("2222", "~/.ssh/config:10")
    assert told["User"] == ("admin", "ssh.user")
    assert told["IdentityFile"] == (f"{home}/a {home}/b", "~/.ssh/config:4, ~/.ssh/config:5")
    assert told["IdentityAgent"] == ("/agent", "~/.ssh/more:2")
    assert told["ConnectTimeout"] == ("7", "hosts[0].ssh.connectTimeout")
    assert told["ProxyJump"] == ("none", "built-in")
    assert told["IdentitiesOnly"] == ("no", "built-in")


def test_hosts_are_listed_with_their_ways(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = spec.Host(
        name="m1", address="192.0.2.1", roles=("control-plane",), ssh=spec.HostSsh(user="admin", proxy_jump="root@b:22")
    )
    file = str(written(tmp_path, host))
    assert cli.run(["hosts", "ls", "-i", file]) == 0
    assert capsys.readouterr().out == "m1  control-plane  admin@192.0.2.1 port 22 through root@b\n"
    assert cli.run(["hosts", "ls", "-i", file, "--explain"]) == 0
    assert "  User                   admin  (hosts[0].ssh.user)\n" in capsys.readouterr().out

"""Connecting to a real OpenSSH server: the link, the algorithms, the host key, the login."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Asked, Server, both, inventory, keygen, public, running

from bootstrap import spec
from bootstrap.connections import connected
from bootstrap.errors import (
    AlgorithmsRefused,
    AuthenticationRefused,
    CommandTimedOut,
    ConnectionLost,
    HostError,
    HostKeyRefused,
    Unreachable,
)
from bootstrap.parallel import Stopped, stoppable
from bootstrap.transport.keyring import Keyring
from bootstrap.transport.ssh import JumpHosts, connect
from tests.tcpproxy import Proxy

LIMIT = 120.0


def through(proxy: Proxy, server: Server, **ssh: object) -> spec.Host:
    server_line = server.known_hosts.read_text().split(" ", 1)[1]
    file = server.folder / f"known_hosts_{proxy.port}"
    file.write_text(f"[127.0.0.1]:{proxy.port} {server_line}")
    return server.host(port=proxy.port, known_hosts_file=str(file), **ssh)


def run_once(host: spec.Host, **ssh: object) -> bytes:
    with connect(inventory(host, **ssh), host) as connected:
        return connected.run("echo done", seconds=LIMIT).stdout


# --- reaching it


@both
def test_a_name_that_does_not_resolve_is_said_to_be_so(server: Server) -> None:
    host = server.host().model_copy(update={"address": "no-such-host.invalid"})
    with pytest.raises(Unreachable, match=r"^m1: the name no-such-host.invalid cannot be resolved"):
        run_once(host)


@both
def test_a_port_without_a_listener_refuses(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1 port {port} refuses connections"):
        run_once(server.host(port=port))


@both
def test_a_listener_that_says_nothing_is_no_ssh_server(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unreachable, match="does not speak SSH within 5 s"):
            run_once(server.host(port=port, connect_timeout="1s"))


@both
def test_f9_connections_dropped_before_the_banner_are_tried_again(server: Server) -> None:
    with Proxy(server.port, drop_first=2) as proxy:
        assert run_once(through(proxy, server)) == b"done\n"
        assert proxy.accepted == 3


@both
def test_what_is_connected_is_closed_where_a_run_ends_while_others_connect(tmp_path: Path) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent, running(tmp_path / "sshd") as server:
        other = server.host(port=silent.getsockname()[1]).model_copy(update={"name": "m2"})
        described = inventory(other).model_copy(update={"hosts": (server.host(), other)})

        def end() -> None:
            server.await_log("Accepted publickey")
            stop.set()

        threading.Thread(target=end).start()
        with stoppable(stop), pytest.raises(Stopped), connected(described, described.hosts):
            pass
        server.await_log("Accepted publickey.*(Connection closed|Disconnected from) ")


@pytest.mark.parametrize(
    ("settings", "kind", "offered"),
    [
        (("Ciphers aes128-cbc,3des-cbc",), r"cipher \(Ciphers\)", "aes128-cbc, 3des-cbc"),
        (("Ciphers aes128-ctr", "MACs hmac-sha1,hmac-md5"), r"MAC \(MACs\)", "hmac-sha1, hmac-md5"),
        (("KexAlgorithms diffie-hellman-group14-sha1",), r"key exchange \(KexAlgorithms\)", "diffie-hellman-.*-sha1"),
        (("HostKeyAlgorithms ssh-rsa",), r"host key \(HostKeyAlgorithms\)", "ssh-rsa"),
    ],
)
@both
def test_a_server_with_weak_algorithms_only_is_refused_by_what_it_offers(
    tmp_path: Path, settings: tuple[str, ...], kind: str, offered: str
) -> None:
    keys = [keygen(tmp_path / "rsa", "rsa"), keygen(tmp_path / "ed25519")]
    with running(tmp_path / "sshd", *settings, host_keys=keys) as server:
        with pytest.raises(AlgorithmsRefused, match=f"for {kind} it offers only {offered}[.;] .*Update its sshd"):
            run_once(server.host())
        assert "Accepted" not in server.log()


@both
def test_an_rsa_key_never_signs_with_sha1(tmp_path: Path) -> None:
    key = keygen(tmp_path / "rsa", "rsa")
    with running(tmp_path / "sshd", "PubkeyAcceptedAlgorithms ssh-rsa") as server:
        (server.folder / "authorized_keys").write_text(public(key) + "\n")
        with pytest.raises(AuthenticationRefused):
            run_once(server.host(identity_file=str(key)))


def test_the_handshake_is_protected_against_cut_off_messages(server: Server) -> None:
    host = server.host()
    with connect(inventory(host), host) as connected:
        session = connected._connection.session  # type: ignore[attr-defined]
        assert session.agreed_on_strict_kex
        assert "kex-strict-s-v00@openssh.com" in session.offered["kex_algo_list"]


def test_gcm_is_chosen_where_the_server_has_it(tmp_path: Path) -> None:
    with running(tmp_path / "sshd", "LogLevel DEBUG1") as server:
        run_once(server.host())
        assert "kex: client->server cipher: aes128-gcm@openssh.com" in server.log()


# --- losing it


@both
def test_f6_a_reset_in_the_middle_of_a_command_is_a_lost_connection(server: Server) -> None:
    with Proxy(server.port) as proxy:
        host = through(proxy, server)
        with (
            connect(inventory(host), host) as connected,
            pytest.raises(ConnectionLost, match=r"^m1: the connection was lost: the server, or something"),
        ):
            connected.run("echo ready; sleep 60", seconds=LIMIT, on_line=lambda _: proxy.reset())


@both
def test_f6_silence_in_the_middle_of_a_command_is_a_lost_connection(server: Server) -> None:
    with Proxy(server.port) as proxy:
        host = through(proxy, server)
        with (
            connect(inventory(host), host, lost_after=5) as connected,
            pytest.raises(ConnectionLost, match="the server stopped answering"),
        ):
            connected.run("echo ready; sleep 60", seconds=LIMIT, on_line=lambda _: proxy.silence())


@both
def test_a_deadline_holds_on_a_silent_link(server: Server) -> None:
    with Proxy(server.port) as proxy:
        host = through(proxy, server)
        with connect(inventory(host), host, lost_after=LIMIT) as connected:
            proxy.silence()
            with pytest.raises(CommandTimedOut):
                connected.run("true", seconds=1)


@both
def test_a_quiet_command_outlives_the_silence_limit_while_the_server_answers(server: Server) -> None:
    host = server.host()
    with connect(inventory(host), host, lost_after=7.5) as connected:
        assert connected.run("sleep 9; echo done", seconds=LIMIT).stdout == b"done\n"


# --- its host key


@both
def test_f8_an_unknown_host_key_is_refused_before_the_login(tmp_path: Path) -> None:
    with running(tmp_path / "sshd") as server:
        server.known_hosts.write_text("")
        with pytest.raises(HostKeyRefused) as refused:
            run_once(server.host())
        shown = subprocess.run(
            ["ssh-keygen", "-lf", server.host_key], check=True, capture_output=True, text=True
        ).stdout.split()[1]
        assert f"its host key ssh-ed25519 {shown} is unknown" in str(refused.value)
        assert f"ssh-keyscan -p {server.port} -t ed25519 127.0.0.1 >> {server.known_hosts}" in str(refused.value)
        assert refused.value.exit_code == 6
        assert "Accepted" not in server.log()
        assert "Failed" not in server.log()


@both
def test_f8_a_changed_host_key_is_refused_with_its_place(tmp_path: Path) -> None:
    with running(tmp_path / "sshd") as server:
        other = public(keygen(tmp_path / "other"))
        server.known_hosts.write_text(f"# mine\n[127.0.0.1]:{server.port} {other}\n")
        with pytest.raises(
            HostKeyRefused, match=f"has changed.*{server.known_hosts}:2 has ssh-ed25519 SHA256:"
        ) as refused:
            run_once(server.host())
        assert refused.value.exit_code == 6
        assert "Accepted" not in server.log()
        assert "Failed" not in server.log()


@both
def test_a_revoked_host_key_is_refused_with_its_place(tmp_path: Path) -> None:
    with running(tmp_path / "sshd") as server:
        with server.known_hosts.open("a") as file:
            file.write(f"@revoked * {public(server.host_key)}\n")
        with pytest.raises(HostKeyRefused, match=f"is revoked .{server.known_hosts}:2."):
            run_once(server.host())


@both
def test_a_server_known_by_one_of_its_keys_is_asked_for_that_one(tmp_path: Path) -> None:
    keys = [
        keygen(tmp_path / "host_ed25519"),
        keygen(tmp_path / "host_ecdsa", "ecdsa"),
        keygen(tmp_path / "rsa", "rsa"),
    ]
    with running(tmp_path / "sshd", host_keys=keys) as server:
        for key in keys:
            server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public(key)}\n")
            assert run_once(server.host()) == b"done\n"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return keygen(tmp_path / "authority")


def certified(tmp_path: Path, authority: Path, kind: str, *options: str) -> tuple[Path, str]:
    key = keygen(tmp_path / f"certified_{kind}", kind)
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "m1", *options, f"{key}.pub"], check=True)
    return key, f"HostCertificate {key}-cert.pub"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@both
def test_a_host_certificate_of_a_known_authority_is_taken(
    tmp_path: Path, authority: Path, kind: str, backend: str
) -> None:
    names = "m1.example,127.0.0.*" if backend == "paramiko" else "m1.example,127.0.0.1"  # not every ssh has patterns
    key, setting = certified(tmp_path, authority, kind, "-h", "-n", names, "-V", "-1h:+1h")
    with running(tmp_path / "sshd", setting, host_keys=[key]) as server:
        server.known_hosts.write_text(f"@cert-authority [127.0.0.*]:* {public(authority)}\n")
        assert run_once(server.host()) == b"done\n"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-h", "-n", "m2.example"), "it is for m2.example, not for 127.0.0.1"),
        (("-h", "-n", "127.0.0.1", "-V", "-2h:-1h"), "it ended on"),
        (("-h", "-n", "127.0.0.1", "-V", "+1h:+2h"), "it is not valid before"),
    ],
)
@both
def test_a_host_certificate_that_is_no_good_is_refused(
    tmp_path: Path, authority: Path, options: tuple[str, ...], why: str
) -> None:
    key, setting = certified(tmp_path, authority, "ed25519", *options)
    with running(tmp_path / "sshd", setting, host_keys=[key]) as server:
        server.known_hosts.write_text(f"@cert-authority * {public(authority)}\n")
        with pytest.raises(
            HostKeyRefused, match=f"signed by the authority at {server.known_hosts}:1, is no good: {why}"
        ):
            run_once(server.host())


@both
def test_a_host_certificate_of_an_unknown_authority_counts_as_a_plain_key(tmp_path: Path, authority: Path) -> None:
    key, setting = certified(tmp_path, authority, "ed25519", "-h", "-n", "127.0.0.1")
    with running(tmp_path / "sshd", setting, host_keys=[key]) as server:
        server.known_hosts.write_text(f"@cert-authority * {public(keygen(tmp_path / 'stranger'))}\n")
        with pytest.raises(HostKeyRefused, match="is unknown"):
            run_once(server.host())


# --- logging in


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    process = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    try:
        for _ in range(600):
            if subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode != 2:
                break
            threading.Event().wait(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


@both
def test_a_key_that_the_server_does_not_know_is_named(server: Server, tmp_path: Path) -> None:
    stranger = keygen(tmp_path / "stranger")
    with pytest.raises(AuthenticationRefused, match=f"refuses user root[:;] .*Keys tried: {stranger}"):
        run_once(server.host(identity_file=str(stranger)))


def test_a_key_file_that_does_not_exist_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationRefused, match=f"{tmp_path}/nowhere does not exist"):
        run_once(server.host(identity_file=f"{tmp_path}/nowhere"))


def test_a_key_with_a_passphrase_and_no_agent_is_said_to_be_so(server: Server, tmp_path: Path) -> None:
    locked = keygen(tmp_path / "locked", "ed25519", "-N", "secret")
    with pytest.raises(
        AuthenticationRefused, match=f"{locked} has a passphrase and no agent runs, and there is no terminal"
    ):
        run_once(server.host(identity_file=str(locked)))


@both
def test_the_agents_keys_are_used(server: Server, agent: None) -> None:
    subprocess.run(["ssh-add", "-q", server.user_key], check=True)
    assert run_once(server.host(identity_file=None)) == b"done\n"


@both
def test_the_agent_signs_for_a_key_file_with_a_passphrase(tmp_path: Path, agent: None) -> None:
    with running(tmp_path / "sshd") as server:
        subprocess.run(["ssh-add", "-q", server.user_key], check=True)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-P", "", "-f", server.user_key], check=True)
        assert run_once(server.host()) == b"done\n"


def encrypt(key: Path, *more: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-P", "", *more, "-f", key], check=True)


@pytest.mark.parametrize("form", ["RFC4716", "PEM"])
@both
def test_a_passphrase_is_asked_for_once_for_all_hosts(tmp_path: Path, form: str) -> None:
    with running(tmp_path / "sshd") as server:
        key = keygen(tmp_path / "rsa", "rsa")
        encrypt(key, "-m", form)
        (server.folder / "authorized_keys").write_text(public(key) + "\n")
        host = server.host(identity_file=str(key))
        asked = Asked("wrong", "secret")
        keyring = Keyring(asked)
        outputs: list[bytes] = []

        with JumpHosts(keyring=keyring) as jumps:

            def work() -> None:
                with connect(inventory(host), host, jumps=jumps, keyring=keyring) as connected:
                    outputs.append(connected.run("echo done", seconds=LIMIT).stdout)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert outputs == [b"done\n"] * 4
        assert asked.questions == [f"Enter passphrase for key '{key}': "] * 2


@both
def test_a_key_of_a_jump_host_is_asked_for_too(tmp_path: Path) -> None:
    with running(tmp_path / "sshd") as server:
        encrypt(server.user_key)
        host = server.host(proxy_jump=f"root@127.0.0.1:{server.port}")
        asked = Asked("secret")
        keyring = Keyring(asked)
        with JumpHosts(keyring=keyring) as jumps, connect(inventory(host), host, jumps=jumps, keyring=keyring) as one:
            assert one.run("echo done", seconds=LIMIT).stdout == b"done\n"
        assert len(asked.questions) == 1


def test_no_passphrase_is_asked_for_while_another_key_will_do(tmp_path: Path, home: Path) -> None:
    with running(tmp_path / "sshd") as server:
        encrypt(keygen(home / ".ssh/id_ed25519"))
        key = keygen(home / ".ssh/id_ecdsa", "ecdsa")
        (server.folder / "authorized_keys").write_text(public(key) + "\n")
        host = server.host(identity_file=None)
        asked = Asked()
        with connect(inventory(host), host, keyring=Keyring(asked)) as connected:
            assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"
        assert asked.questions == []


@pytest.mark.parametrize(
    ("answers", "why"), [((), "nobody is there"), (("a", "b", "c"), "what was given for it was wrong 3 times")]
)
def test_a_passphrase_that_nobody_knows_is_said_to_be_so(
    server: Server, tmp_path: Path, answers: tuple[str, ...], why: str
) -> None:
    locked = keygen(tmp_path / "locked", "ed25519", "-N", "secret")
    host = server.host(identity_file=str(locked))
    with pytest.raises(AuthenticationRefused, match=f"{locked} has a passphrase and no agent runs, and {why}"):
        connect(inventory(host), host, keyring=Keyring(Asked(*answers)))


def test_the_agent_that_the_users_configuration_names_is_used(
    server: Server, agent: None, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["ssh-add", "-q", server.user_key], check=True)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    (home / ".ssh/config").write_text(f"IdentityAgent {tmp_path}/%n/../agent\n")
    (tmp_path / "127.0.0.1").mkdir()
    assert run_once(server.host(identity_file=None)) == b"done\n"
    (home / ".ssh/config").write_text("IdentityAgent none\n")
    with pytest.raises(AuthenticationRefused, match="no usable key"):
        run_once(server.host(identity_file=None))
    (home / ".ssh/config").write_text("IdentityAgent /nowhere\n")
    with pytest.raises(AuthenticationRefused, match="the agent at /nowhere does not answer"):
        run_once(server.host(identity_file=None))


@both
def test_with_identities_only_the_agent_signs_for_named_keys_alone(tmp_path: Path, agent: None, home: Path) -> None:
    stranger = keygen(tmp_path / "stranger")
    with running(tmp_path / "sshd", "MaxAuthTries 1") as server:
        subprocess.run(["ssh-add", "-q", stranger, server.user_key], check=True)
        (home / ".ssh/config").write_text("IdentitiesOnly yes\n")
        (home / "half.pub").write_text(server.user_key.with_name(server.user_key.name + ".pub").read_text())
        server.user_key.with_name(server.user_key.name + ".pub").unlink()
        encrypt(server.user_key)
        assert run_once(server.host()) == b"done\n"
        assert run_once(server.host(identity_file=str(home / "half.pub"))) == b"done\n"
        with pytest.raises(AuthenticationRefused, match="none, as there is no usable key"):
            run_once(server.host(identity_file=None))
        assert "Failed publickey" not in server.log()


def sign(authority: Path, key: Path, *options: str) -> Path:
    """Have a user's key certified for root, or as `options` say."""
    given = options or ("-n", "root")
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "me", *given, f"{key}.pub"], check=True)
    return Path(f"{key}-cert.pub")


@pytest.fixture
def trusting(tmp_path: Path, authority: Path) -> Iterator[Server]:
    """A server that knows no key, and trusts an authority."""
    with running(tmp_path / "sshd", f"TrustedUserCAKeys {authority}.pub") as server:
        (server.folder / "authorized_keys").write_text("")
        yield server


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@both
def test_a_users_certificate_beside_the_key_is_shown(
    trusting: Server, tmp_path: Path, authority: Path, kind: str
) -> None:
    key = keygen(tmp_path / "me", kind)
    sign(authority, key)
    assert run_once(trusting.host(identity_file=str(key))) == b"done\n"
    assert "Accepted publickey for root" in trusting.log()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@both
def test_a_users_certificate_goes_with_a_key_in_the_agent(
    trusting: Server, tmp_path: Path, authority: Path, agent: None, home: Path, kind: str
) -> None:
    key = keygen(tmp_path / "me", kind)
    subprocess.run(["ssh-add", "-q", key], check=True)
    certificate = sign(authority, key).rename(tmp_path / "elsewhere.pub")
    (home / ".ssh/config").write_text(f"CertificateFile {certificate}\n")
    assert run_once(trusting.host(identity_file=None)) == b"done\n"


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@both
def test_a_certificate_that_the_agent_holds_is_shown(
    trusting: Server, tmp_path: Path, authority: Path, agent: None, kind: str
) -> None:
    key = keygen(tmp_path / "me", kind)
    sign(authority, key)
    subprocess.run(["ssh-add", "-q", key], check=True)
    assert run_once(trusting.host(identity_file=None)) == b"done\n"


def test_a_certificate_that_is_no_good_does_not_keep_its_key_from_being_used(
    server: Server, tmp_path: Path, authority: Path
) -> None:
    certificate = sign(authority, server.user_key, "-n", "somebody", "-V", "-2h:-1h")
    try:
        assert run_once(server.host()) == b"done\n"
        certificate.write_text("damaged\n")
        assert run_once(server.host()) == b"done\n"
        with pytest.raises(AuthenticationRefused, match=f"{certificate} is no certificate that can be used"):
            run_once(server.host(user="nobody"))
    finally:
        certificate.unlink()


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
@both
def test_keys_of_other_kinds_in_their_default_places_are_used(tmp_path: Path, home: Path, kind: str) -> None:
    key = keygen(home / ".ssh" / f"id_{kind}", kind)
    with running(tmp_path / "sshd") as server:
        (server.folder / "authorized_keys").write_text(public(key) + "\n")
        assert run_once(server.host(identity_file=None)) == b"done\n"


def test_a_server_that_ends_the_login_early_is_said_to_have_done_so(tmp_path: Path, home: Path) -> None:
    for kind in ("ed25519", "ecdsa", "rsa"):
        keygen(home / ".ssh" / f"id_{kind}", kind)
    with (
        running(tmp_path / "sshd", "MaxAuthTries 1") as server,
        pytest.raises(AuthenticationRefused, match="it closed the connection after 1 of them"),
    ):
        run_once(server.host(identity_file=None))


def test_a_server_without_logins_by_key_is_said_to_be_so(tmp_path: Path) -> None:
    with (
        running(tmp_path / "sshd", "PubkeyAuthentication no", "PasswordAuthentication yes") as server,
        pytest.raises(AuthenticationRefused, match="it allows no login by key"),
    ):
        run_once(server.host())


# --- what lies between the login and the command


@pytest.mark.parametrize("shell", ["sh", "bash --norc", "dash", "busybox sh", "tcsh -f", "fish"])
@both
def test_f38_any_login_shell_will_do(tmp_path: Path, shell: str) -> None:
    with running(tmp_path / "sshd", f'ForceCommand exec {shell} -c "$SSH_ORIGINAL_COMMAND"') as server:
        host = server.host()
        with connect(inventory(host), host) as connected:
            result = connected.run('echo "it\'s $((1+1))!"; cat', stdin=b"data", seconds=LIMIT)
        assert result.stdout == b"it's 2!\ndata"


@both
def test_f10_what_a_banner_and_start_files_print_is_not_output(tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_text("Welcome\n")
    noisy = 'ForceCommand echo noise; printf "more noise"; echo complaint >&2; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    with running(tmp_path / "sshd", f"Banner {banner}", noisy) as server:
        host = server.host()
        with connect(inventory(host), host) as connected:
            result = connected.run("echo out; echo err >&2", seconds=LIMIT)
        assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


@both
def test_f10_a_login_shell_that_runs_nothing_is_an_error_with_its_words(tmp_path: Path) -> None:
    with (
        running(tmp_path / "sshd", "ForceCommand echo This account is not available; exit 1") as server,
        pytest.raises(HostError, match="m1: the login shell does not run commands; it says: This account is not"),
    ):
        run_once(server.host())

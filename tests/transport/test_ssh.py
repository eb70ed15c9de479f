"""Commands and connections over a real OpenSSH server."""

from __future__ import annotations

import datetime
import http.client
import http.server
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paramiko.common import cMSG_CHANNEL_DATA
from sshd import Server, both, inventory, running

from bootstrap.errors import CommandTimedOut, ConnectionLost, HostError
from bootstrap.transport.base import OUTPUT_LIMIT, Host
from bootstrap.transport.ssh import connect

LIMIT = 120.0


def test_a_command_gives_status_and_both_streams(host: Host) -> None:
    result = host.run("echo out; echo err >&2; exit 3", seconds=LIMIT)
    assert (result.status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_commands_run_as_root_in_a_plain_environment(host: Host) -> None:
    result = host.run('id -u; pwd; umask; echo "$LC_ALL"; command -v sshd', seconds=LIMIT)
    assert result.stdout.split() == [b"0", b"/", b"0022", b"C", b"/usr/sbin/sshd"]


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("printf %s 'a  b'", b"a  b"),
        ('printf %s "it\'s $((1+1))!"', b"it's 2!"),
        ("printf %s 'a\nb'\nprintf c", b"a\nbc"),
        ("printf '%s' 'back\\\\slash' '*'", b"back\\\\slash*"),
    ],
)
def test_a_command_reaches_the_shell_as_written(host: Host, command: str, printed: bytes) -> None:
    assert host.run(command, seconds=LIMIT).stdout == printed


def test_input_of_megabytes_comes_back_whole(host: Host) -> None:
    chunks = [os.urandom(100_000) for _ in range(80)]
    assert host.run("cat", stdin=iter(chunks), seconds=LIMIT).stdout == b"".join(chunks)


def test_f40_fifty_megabytes_of_output_while_input_waits_do_not_dead_lock(host: Host) -> None:
    result = host.run(
        "head -c 25000000 /dev/zero; head -c 25000000 /dev/zero >&2; wc -c", stdin=b"x" * 5_000_000, seconds=LIMIT
    )
    assert (len(result.stdout), result.stdout[-8:], len(result.stderr)) == (25_000_008, b"5000000\n", 64 * 1024)


def test_f40_more_output_than_is_kept_ends_the_command(host: Host) -> None:
    with pytest.raises(HostError, match="wrote more than 64 MiB"):
        host.run(f"head -c {OUTPUT_LIMIT + 1} /dev/zero; sleep 600", seconds=LIMIT)


def test_a_command_that_leaves_its_input_unread_is_judged_by_its_status(host: Host) -> None:
    assert host.run("exit 7", stdin=(b"x" * 100_000 for _ in range(100)), seconds=LIMIT).status == 7


def test_a_command_that_ends_while_its_input_is_on_the_way_leaves_the_connection_alone(server: Server) -> None:
    target = server.host()
    with connect(inventory(target), target) as host:
        session = host._connection.session  # type: ignore[attr-defined]
        send = session._send_user_message
        late = []

        def send_late(message: paramiko.Message) -> None:
            """Hold data after the first packet back until the other side has closed the channel."""
            data = bytes(message)
            if data[:1] == cMSG_CHANNEL_DATA and b"x" * 1000 in data:
                channel = session._channels.get(int.from_bytes(data[1:5], "big"))
                while not channel.closed:
                    time.sleep(0.01)
                time.sleep(0.3)
                late.append(channel)
            send(message)

        session._send_user_message = send_late
        assert host.run("exit 7", stdin=b"x" * 100_000, seconds=LIMIT).status == 7
        assert late
        assert host.run("echo alive", seconds=LIMIT).stdout == b"alive\n"


def test_lines_are_given_as_they_arrive(host: Host) -> None:
    lines: list[bytes] = []
    reader, writer = os.pipe()  # the command goes on only after its first line was seen here

    def on_line(line: bytes) -> None:
        lines.append(line)
        if line == b"first":
            os.write(writer, b"go\n")

    with open(reader, "rb") as gate, open(writer, "wb"):  # noqa: PTH123
        command = f"echo first; head -c 3 </proc/{os.getpid()}/fd/{gate.fileno()} >/dev/null; echo second; printf end"
        result = host.run(command, on_line=on_line, seconds=LIMIT)
    assert (lines, result.stdout) == ([b"first", b"second", b"end"], b"")


def test_f40_a_command_that_never_ends_is_ended_on_the_machine(host: Host, tmp_path: Path) -> None:
    with pytest.raises(CommandTimedOut, match=r"^m1: a command did not end within 5 s"):
        host.run(f"sleep 600 & echo $! >{tmp_path}/pid; wait", seconds=5)
    pid = (tmp_path / "pid").read_text().strip()
    # whoever adopted it may take a while to collect it
    gone = f"until grep -q '^State:.Z' /proc/{pid}/status 2>/dev/null || ! test -e /proc/{pid}; do sleep 0.1; done"
    assert host.run(gone, seconds=LIMIT).status == 0


def test_a_command_whose_input_fails_is_ended_before_it_sees_the_end(host: Host, tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"part"
        while not (tmp_path / "started").exists():
            yield b"."
        raise FileNotFoundError("blob")

    with pytest.raises(FileNotFoundError, match="blob"):
        host.run(f"touch {tmp_path}/started; cat >/dev/null; touch {tmp_path}/ended", stdin=chunks(), seconds=LIMIT)
    assert not (tmp_path / "ended").exists()


def test_a_command_ended_by_a_signal_has_status_minus_one(host: Host) -> None:
    assert host.run("kill -s KILL $$", seconds=LIMIT).status == -1


def test_commands_may_run_side_by_side_on_one_connection(host: Host) -> None:
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        results[number] = host.run(f"echo {number}", seconds=LIMIT).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: b"%d\n" % number for number in range(6)}


@both
def test_a_closed_connection_runs_nothing(server: Server) -> None:
    target = server.host()
    host = connect(inventory(target), target)
    host.close()
    host.close()
    with pytest.raises(ConnectionLost):
        host.run("true", seconds=LIMIT)


def _echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
        connection.sendall(data.upper())


def test_dial_carries_both_directions_and_half_closes(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_echo, args=(listener,))
        thread.start()
        with host.dial("127.0.0.1", listener.getsockname()[1], seconds=LIMIT) as near:
            near.settimeout(LIMIT)
            near.sendall(b"hello" * 200_000)
            near.shutdown(socket.SHUT_WR)
            with near.makefile("rb") as answer:
                assert answer.read() == b"HELLO" * 200_000
        thread.join()


def test_closing_a_dialled_socket_closes_the_far_connection(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = host.dial("127.0.0.1", listener.getsockname()[1], seconds=LIMIT)
        far, _ = listener.accept()
        with far:
            far.settimeout(LIMIT)
            near.close()
            assert far.recv(1) == b""


def test_dial_to_a_closed_port_is_refused(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1 port {port}, from m1"):
        host.dial("127.0.0.1", port, seconds=LIMIT)


def test_a_connection_that_fails_otherwise_has_the_servers_words_and_is_no_refusal(host: Host) -> None:
    with pytest.raises(OSError, match=r"Name or service|resolution") as caught:
        host.dial("no-such-host.invalid", 80, seconds=LIMIT)
    assert not isinstance(caught.value, ConnectionRefusedError)


@both
def test_connections_that_fail_at_the_same_time_have_each_its_own_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with running(tmp_path / "sshd", f"PermitOpen 127.0.0.1:{port}") as server:
        target = server.host()
        with connect(inventory(target), target) as host, ThreadPoolExecutor(16) as threads:

            def dial(number: int) -> type[BaseException]:
                try:
                    host.dial("127.0.0.1", port if number % 2 else port - 1, seconds=LIMIT)
                except (OSError, HostError) as error:
                    return type(error)
                raise AssertionError(number)

            kinds = list(threads.map(dial, range(64)))
    assert kinds == [HostError, ConnectionRefusedError] * 32


@both
def test_forbidden_forwarding_is_told_apart(tmp_path: Path) -> None:
    with running(tmp_path / "sshd", "AllowTcpForwarding no") as server:
        target = server.host()
        with connect(inventory(target), target) as host, pytest.raises(HostError, match="its sshd forbids"):
            host.dial("127.0.0.1", 22, seconds=LIMIT)


def _self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "server.pem"


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_tls_and_http_work_over_dial(host: Host, tmp_path: Path) -> None:
    pem = _self_signed(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(pem)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as web:
        web.socket = theirs.wrap_socket(web.socket, server_side=True)
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        near = host.dial("127.0.0.1", web.server_port, seconds=LIMIT)
        near.settimeout(LIMIT)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = ssl.create_default_context(cafile=pem).wrap_socket(near, server_hostname="localhost")
        body = os.urandom(1_000_000)
        for _ in range(3):
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body
        connection.close()
        web.shutdown()
        thread.join()


def test_an_input_that_has_nothing_yet_does_not_keep_output_waiting(host: Host) -> None:
    lines: list[bytes] = []

    def answer() -> Iterator[bytes]:
        yield b"one\n"
        while not lines:
            yield b""
        yield b"two\n"

    result = host.run("cat", stdin=answer(), seconds=LIMIT, on_line=lines.append)
    assert (result.status, lines) == (0, [b"one", b"two"])

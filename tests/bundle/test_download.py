from __future__ import annotations

import base64
import errno
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from servers import FileServer, Reply, Request, basic, docker_config, part, serving_files

from bootstrap.bundle import credentials
from bootstrap.bundle.download import (
    Client,
    DownloadFailed,
    Limits,
    LoginRefused,
    NotThere,
    ServerUnreachable,
    ServerUntrusted,
    TooSlow,
    WrongDigest,
)
from bootstrap.errors import ConfigError

DATA = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(DATA).hexdigest()
QUICK = Limits(silence=0.5, attempts=3, pause=0.01)


@pytest.fixture
def client(file_server: FileServer, tmp_path: Path) -> Client:
    file_server.files["/file"] = DATA
    return Client(ca=tmp_path / "ca.pem", limits=QUICK)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    (tmp_path / "to").mkdir()
    return tmp_path / "to" / "file"


def ranges(server: FileServer) -> list[str]:
    return [request.headers.get("Range", "") for request in server.requests]


def test_a_file_comes_whole(client: Client, file_server: FileServer, to: Path) -> None:
    client.download(f"{file_server.url}/file", to, sha256=DIGEST, size=len(DATA))
    assert to.read_bytes() == DATA
    assert list(to.parent.iterdir()) == [to]


def test_a_file_that_is_there_is_not_fetched_again(client: Client, file_server: FileServer, to: Path) -> None:
    to.write_bytes(DATA)
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert file_server.requests == []


def test_a_file_that_is_there_and_altered_is_fetched_again(client: Client, file_server: FileServer, to: Path) -> None:
    to.write_bytes(b"x" + DATA[1:])
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert to.read_bytes() == DATA


def test_a_wrong_digest_is_refused_and_nothing_kept(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.files["/file"] = DATA[:-1] + b"x"
    with pytest.raises(WrongDigest, match=DIGEST):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert list(to.parent.iterdir()) == []


def test_more_bytes_than_announced_are_refused(client: Client, file_server: FileServer, to: Path) -> None:
    with pytest.raises(WrongDigest, match="more bytes"):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST, size=len(DATA) - 1)
    assert list(to.parent.iterdir()) == []


def test_a_connection_that_is_cut_is_resumed(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda request: replace(part(DATA, request), cut=400_000)
    client.download(f"{file_server.url}/file", to, sha256=DIGEST, size=len(DATA))
    assert to.read_bytes() == DATA
    assert ranges(file_server) == ["", "bytes=400000-", "bytes=800000-"]


def test_what_a_killed_run_left_is_gone_on_with(client: Client, file_server: FileServer, to: Path) -> None:
    to.with_name("file.partial").write_bytes(DATA[:1000])
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert to.read_bytes() == DATA
    assert ranges(file_server) == ["bytes=1000-"]


@pytest.mark.parametrize("left", [b"of another file", DATA + b"more"])
def test_what_is_left_of_another_file_does_no_harm(
    client: Client, file_server: FileServer, to: Path, left: bytes
) -> None:
    to.with_name("file.partial").write_bytes(left)
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert to.read_bytes() == DATA


def test_a_server_without_ranges_is_asked_for_all_again(client: Client, file_server: FileServer, to: Path) -> None:
    cuts = iter([400_000, 500_000])
    file_server.before = lambda _: Reply(body=DATA, cut=next(cuts, None))
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert to.read_bytes() == DATA


def test_a_connection_that_is_always_cut_is_given_up(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda _: Reply(body=DATA, cut=1000)
    with pytest.raises(ServerUnreachable, match=f"cut after 1000 of {len(DATA)} bytes"):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert len(file_server.requests) <= 1 + QUICK.attempts


def test_a_server_that_falls_silent_is_asked_again(client: Client, file_server: FileServer, to: Path) -> None:
    stalls = iter([True])
    file_server.before = lambda request: replace(
        part(DATA, request), **({"cut": 1000, "stall": True} if next(stalls, False) else {})
    )
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert ranges(file_server) == ["", "bytes=1000-"]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_server_that_is_too_slow_is_given_up(
    client: Client, file_server: FileServer, to: Path, *, goes_on: bool
) -> None:
    def answer(request: Request) -> Reply:
        return replace(part(DATA, request) if goes_on else Reply(body=DATA), byte_seconds=0.02)

    file_server.before = answer
    with pytest.raises(TooSlow, match="bytes came within") as caught:
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert caught.value.exit_code == 10


def test_a_missing_file_is_asked_for_once(client: Client, file_server: FileServer, to: Path) -> None:
    with pytest.raises(NotThere, match="404"):
        client.download(f"{file_server.url}/none", to, sha256=DIGEST)
    assert len(file_server.requests) == 1


def test_a_server_that_asks_for_a_pause_gets_it(file_server: FileServer, tmp_path: Path, to: Path) -> None:
    told: list[str] = []
    file_server.files["/file"] = DATA
    replies = iter([Reply(429, {"Retry-After": "1"})])
    file_server.before = lambda _: next(replies, None)
    # its own pause would be an hour
    limits = replace(QUICK, pause=3600)
    Client(ca=tmp_path / "ca.pem", limits=limits, progress=told.append).download(
        f"{file_server.url}/file", to, sha256=DIGEST
    )
    assert to.read_bytes() == DATA
    assert "429" in told[0]
    assert "in 1 s" in told[0]


def test_a_pause_that_is_too_long_is_told(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda _: Reply(429, {"Retry-After": "7200"})
    with pytest.raises(TooSlow, match="7200 s"):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert len(file_server.requests) == 1


def test_a_server_that_is_busy_for_good_is_given_up(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda _: Reply(503)
    with pytest.raises(DownloadFailed, match="503"):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert len(file_server.requests) == QUICK.attempts


def test_a_redirect_is_followed_and_its_query_not_told(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda request: (
        Reply(307, {"Location": "/elsewhere?signature=hidden"}) if request.path == "/file" else None
    )
    with pytest.raises(NotThere, match="/elsewhere: ") as caught:
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert "hidden" not in str(caught.value)
    file_server.files["/elsewhere"] = DATA
    client.download(f"{file_server.url}/file", to, sha256=DIGEST)
    assert to.read_bytes() == DATA


def test_redirects_have_an_end(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda _: Reply(302, {"Location": "/file"})
    with pytest.raises(DownloadFailed, match="more than 10 times"):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)


def test_a_redirect_that_gives_up_tls_is_refused(client: Client, file_server: FileServer, to: Path) -> None:
    file_server.before = lambda _: Reply(302, {"Location": "http://127.0.0.1/file"})
    with pytest.raises(DownloadFailed, match="not protected by TLS"):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(302, {"Location": "https://[files.example/file"}), "leads to, something that is no URL"),
        (Reply(401, {"WWW-Authenticate": 'Bearer realm="https://[tokens.example"'}), "for a token is no URL"),
        (Reply(503, {"Retry-After": "Fri, 31 Dec 2049 23:59:59 -0000"}), "503"),  # no zone: no time is meant
    ],
)
def test_what_a_server_says_in_no_form_that_there_is_is_told(
    client: Client, file_server: FileServer, to: Path, reply: Reply, told: str
) -> None:
    file_server.before = lambda _: reply
    with pytest.raises(DownloadFailed, match=told):
        client.download(f"{file_server.url}/file", to, sha256=DIGEST)


def test_a_certificate_of_an_unknown_ca_is_refused(file_server: FileServer, to: Path) -> None:
    file_server.files["/file"] = DATA
    with pytest.raises(ServerUntrusted, match="--ca-file"):
        Client(limits=QUICK).download(f"{file_server.url}/file", to, sha256=DIGEST)


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        Client(ca=tmp_path / "ca.pem")


def test_a_server_that_is_not_there_is_told(client: Client, to: Path, tmp_path: Path) -> None:
    with serving_files(tmp_path) as gone:
        url = gone.url
    with pytest.raises(ServerUnreachable, match="refused"):
        client.download(f"{url}/file", to, sha256=DIGEST)
    assert isinstance(client.answers(url), ServerUnreachable)


def test_a_server_answers_whatever_it_says(client: Client, file_server: FileServer) -> None:
    assert client.answers(f"{file_server.url}/none") is None


@pytest.fixture
def guarded(file_server: FileServer) -> FileServer:
    """The server, which wants the login me:secret."""

    def ask(request: Request) -> Reply | None:
        if request.headers.get("Authorization") == basic("me", "secret"):
            return None
        return Reply(401, {"WWW-Authenticate": 'Basic realm="files"'})

    file_server.files["/file"] = DATA
    file_server.before = ask
    return file_server


def with_login(server: FileServer, folder: Path, password: str = "secret") -> Client:
    file = docker_config(folder / "logins.json", server.host, "me", password)
    return Client(credentials.read(file), ca=folder / "ca.pem", limits=QUICK)


def test_a_login_is_sent_where_it_is_asked_for(guarded: FileServer, tmp_path: Path, to: Path) -> None:
    with_login(guarded, tmp_path).download(f"{guarded.url}/file", to, sha256=DIGEST)
    assert to.read_bytes() == DATA


def test_without_a_login_the_message_says_where_to_put_one(client: Client, guarded: FileServer, to: Path) -> None:
    with pytest.raises(LoginRefused, match="--auth-file") as caught:
        client.download(f"{guarded.url}/file", to, sha256=DIGEST)
    assert caught.value.exit_code == 7


def test_a_wrong_password_is_sent_once_and_not_told(guarded: FileServer, tmp_path: Path, to: Path) -> None:
    with pytest.raises(LoginRefused, match="does not accept") as caught:
        with_login(guarded, tmp_path, "guessed").download(f"{guarded.url}/file", to, sha256=DIGEST)
    assert len(guarded.requests) == 2
    assert "guessed" not in str(caught.value)


def test_a_login_does_not_go_where_a_redirect_leads(guarded: FileServer, tmp_path: Path, to: Path) -> None:
    with serving_files(tmp_path) as other:
        other.files["/file"] = DATA
        ask = guarded.before
        guarded.before = lambda request: ask(request) or Reply(302, {"Location": f"{other.url}/file"})
        with_login(guarded, tmp_path).download(f"{guarded.url}/file", to, sha256=DIGEST)
        assert [request.headers.get("Authorization") for request in other.requests] == [None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_left_as_it_was(client: Client, file_server: FileServer, small_disk: Path) -> None:
    with pytest.raises(OSError, match=r"file\.partial") as caught:
        client.download(f"{file_server.url}/file", small_disk / "file", sha256=DIGEST)
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []
    assert len(file_server.requests) == 1


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_files(tmp_path, tls=False) as proxy:
        proxy.before = lambda _: Reply(body=DATA)
        monkeypatch.setenv("http_proxy", proxy.url)
        Client(limits=QUICK).download("http://files.example/file", to, sha256=DIGEST)
        assert to.read_bytes() == DATA


def test_logins_are_read_from_dockers_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = base64.b64encode(b"me:se:cret").decode()
    told = {"auths": {"https://index.docker.io/v1/": {"auth": auth}, "ghcr.io": {"username": "me", "password": "pw"}}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    found = credentials.read(None)
    assert found.of("registry-1.docker.io").basic == basic("me", "se:cret")
    assert found.of("ghcr.io").basic == basic("me", "pw")
    assert found.of("quay.io").basic == ""
    assert auth not in repr(found)


def test_without_dockers_file_there_are_no_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert credentials.read(None).of("ghcr.io").basic == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not JSON", "logins under `auths`"),
        ("[]", "logins under `auths`"),
        ('{"auths": {"ghcr.io": {"auth": "not base64!"}}}', r"auths\[ghcr\.io\]"),
        ('{"auths": {"ghcr.io": "secret"}}', r"auths\[ghcr\.io\]"),
    ],
)
def test_a_bad_file_of_logins_is_named_without_what_is_in_it(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "logins").write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        credentials.read(tmp_path / "logins")
    assert "not base64" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_login_that_a_program_keeps_is_told(tmp_path: Path) -> None:
    (tmp_path / "logins").write_text(json.dumps({"auths": {"ghcr.io": {}}, "credsStore": "desktop"}))
    with pytest.raises(ConfigError, match="docker-credential-desktop"):
        credentials.read(tmp_path / "logins").of("ghcr.io")

"""known_hosts files as OpenSSH's own `ssh-keygen -F` understands them."""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap.errors import ConfigError
from bootstrap.transport.known_hosts import Entry, KnownKeys, fingerprint, known_keys, parse, read

FILE = Path("known_hosts")


def wire(kind: str, payload: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in (kind.encode(), payload))


def key(number: int, kind: str = "ssh-ed25519") -> bytes:
    return wire(kind, bytes([number]) * 32)


def line(hosts: str, number: int, kind: str = "ssh-ed25519") -> str:
    return f"{hosts} {kind} {base64.b64encode(key(number, kind)).decode()} comment"


def known(text: str, host: str, port: int = 22) -> KnownKeys:
    return known_keys(tuple(parse(text, str(FILE))), [FILE], host, port)


def places(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.where for entry in entries]


def test_a_line_that_cannot_be_read_spoils_no_other() -> None:
    text = "\n".join(
        ["", "# comment", "m1", "m1 ssh-ed25519", "m1 ssh-ed25519 ???", "@unknown " + line("m1", 1), "m1 1024 35 123"]
    )
    text += "\n" + line("m1", 2).replace("ssh-ed25519", "ssh-rsa", 1) + "\n\x00\xff\n" + line("m1", 3)
    assert places(known(text, "m1").keys) == ["known_hosts:10"]


def test_keys_on_hardware_tokens_are_kept() -> None:
    text = line("m1", 1, "sk-ssh-ed25519@openssh.com")
    assert places(known(text, "m1").keys) == ["known_hosts:1"]


def test_a_server_on_another_port_goes_by_its_port_first() -> None:
    text = line("m1", 1) + "\n" + line("[m1]:2222", 2)
    assert places(known(text, "m1", 2222).keys) == ["known_hosts:2"]


def test_what_is_known_for_the_name_alone_counts_for_a_port_of_which_nothing_is_known() -> None:
    assert places(known(line("m1", 1), "m1", 2222).keys) == ["known_hosts:1"]


def test_a_revoked_key_is_refused_even_where_it_is_listed_too() -> None:
    text = line("m1", 1) + "\n@revoked " + line("*", 1)
    refusal = known(text, "M1").judge("ssh-ed25519", key(1), None, now=0).text
    assert refusal
    assert "is revoked (known_hosts:2)" in refusal


def test_one_of_several_keys_of_a_kind_is_enough() -> None:
    text = line("m1", 1) + "\n" + line("m1", 2)
    assert known(text, "m1").judge("ssh-ed25519", key(2), None, now=0).text == ""


def test_a_changed_key_names_every_known_one_and_how_to_remove_them() -> None:
    refusal = known(line("[m1]:2222", 1), "m1", 2222).judge("ssh-ed25519", key(2), None, now=0).text
    assert refusal
    assert f"it shows ssh-ed25519 {fingerprint(key(2))}" in refusal
    assert f"known_hosts:1 has ssh-ed25519 {fingerprint(key(1))}" in refusal
    assert "ssh-keygen -f known_hosts -R '[m1]:2222'" in refusal


def test_a_key_of_an_unknown_kind_names_those_that_are_known() -> None:
    refusal = known(line("m1", 1, "ssh-rsa"), "m1").judge("ssh-ed25519", key(2), None, now=0).text
    assert refusal
    assert "only other keys of m1 are known (ssh-rsa at known_hosts:1)" in refusal


def test_known_kinds_are_asked_for_first() -> None:
    assert known(line("m1", 1, "ssh-rsa"), "m1").algorithms()[:3] == ("rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519")


def test_certificates_are_asked_for_only_where_an_authority_is_known() -> None:
    assert known("@cert-authority " + line("*", 1), "m1").algorithms()[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert not any("cert" in name for name in known(line("m1", 1), "m1").algorithms())


def test_a_damaged_certificate_is_no_certificate() -> None:
    text = "@cert-authority " + line("*", 1)
    refusal = known(text, "m1").judge("ssh-ed25519", key(2), wire("ssh-ed25519-cert-v01@openssh.com", b""), now=0).text
    assert refusal
    assert "is unknown" in refusal


def test_a_file_that_does_not_exist_has_no_keys(tmp_path: Path) -> None:
    assert read([tmp_path / "none"]) == ()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read"):
        read([tmp_path])


HOSTS = st.sampled_from(["m1", "m2", "m1.example", "10.0.0.1", "fe80::1", "m-1_x"])
PATTERN = st.builds(
    lambda negated, text: negated + text,
    st.sampled_from(["", "", "!"]),
    st.one_of(
        HOSTS,
        HOSTS.map(lambda host: f"[{host}]:2222"),
        st.text(alphabet="m12.*?[]:!xM", min_size=1, max_size=6),
        st.sampled_from(["*", "m?", "*.example", "10.0.*", "[m1]:*", "[*]:2222", "M1"]),
    ),
)


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(st.lists(PATTERN, min_size=1, max_size=3).map(",".join), min_size=1, max_size=6),
    host=HOSTS,
    port=st.sampled_from([22, 2222]),
    hashed=st.booleans(),
)
def test_the_same_lines_match_as_for_ssh_keygen(lists: list[str], host: str, port: int, hashed: bool) -> None:
    name = host if port == 22 else f"[{host}]:{port}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "known_hosts"
        file.write_text("".join(line(hosts, number) + "\n" for number, hosts in enumerate(lists)))
        if hashed:
            subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], capture_output=True, check=False)
        found = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, text=True, check=False)
        theirs = [int(number) for number in re.findall(r"^# Host .* found: line ([0-9]+)", found.stdout, re.MULTILINE)]
        assert [entry.line for entry in read([file]) if entry.matches(name)] == theirs

from __future__ import annotations

import base64
import datetime
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import pki, tokens
from bootstrap.errors import UsageError
from bootstrap.site import Token
from bootstrap.spec import Cluster

TOKEN = Token("abcdef", "0123456789abcdef")
NOW = datetime.datetime(2026, 5, 17, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("content", "token", "signature"),
    [
        (
            b"Hello from the other side. I must have called a thousand times.",
            Token("joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8",
        ),
        (
            b"apiVersion: v1\n",
            TOKEN,
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..K1chermAQEq0rdqy-ehj0VDfmA_ytv8Wzh9g26FldrE",
        ),
    ],
)
def test_signatures_are_kubernetes_own(content: bytes, token: Token, signature: str) -> None:
    assert tokens.sign(content, token) == signature
    assert tokens.verify(signature, content, token)


@given(content=st.binary(max_size=200), other=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_a_signature_is_for_one_content_and_one_token(content: bytes, other: bytes) -> None:
    signature = tokens.sign(content, TOKEN)
    assert tokens.verify(signature, other, TOKEN) == (content == other)
    assert not tokens.verify(signature, content, Token("abcdef", "fedcba9876543210"))
    assert not tokens.verify(signature, content, Token("zbcdef", TOKEN.secret))


def test_drawn_tokens_can_be_read_and_differ() -> None:
    drawn = [tokens.make() for _ in range(20)]
    assert [tokens.parse(str(token)) for token in drawn] == drawn
    assert len({str(token) for token in drawn}) == 20


@pytest.mark.parametrize(
    "text", ["", "abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0", "a.b"]
)
def test_malformed_tokens_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        tokens.parse(text)
    assert not text or text not in str(refused.value)


def test_white_space_around_a_token_is_a_files_last_line() -> None:
    assert tokens.parse(" abcdef.0123456789abcdef\n") == TOKEN


def test_an_id_is_read_from_itself_or_from_the_whole_token() -> None:
    assert tokens.parse_id("abcdef") == tokens.parse_id(str(TOKEN)) == "abcdef"


def test_a_token_does_not_show_its_secret_when_printed_as_a_value() -> None:
    assert TOKEN.secret not in repr(TOKEN)


def test_the_secret_is_what_kubernetes_reads() -> None:
    expires = datetime.datetime(2026, 5, 18, 14, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    secret = tokens.secret_manifest(TOKEN, expires=expires, description="for a rack")
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "description": "for a rack",
        "expiration": "2026-05-18T12:00:00Z",
        "usage-bootstrap-signing": "true",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }


def test_a_token_without_end_has_no_expiration() -> None:
    assert "expiration" not in tokens.secret_manifest(TOKEN, expires=None)["data"]


@pytest.mark.parametrize(
    ("usages", "groups"), [(("sining",), ()), (("signing",), ("system:masters",)), ((), ("system:bootstrappers:",))]
)
def test_usages_and_groups_that_tokens_cannot_have_are_refused(
    usages: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        tokens.secret_manifest(TOKEN, expires=None, usages=usages, groups=groups)


def test_a_listing_shows_what_was_made_and_leaves_other_secrets_out() -> None:
    other = Token("000000", "0123456789abcdef")
    broken = tokens.secret_manifest(Token("bbbbbb", "x" * 16), expires=None)
    broken["data"]["expiration"] = base64.b64encode(b"tomorrow").decode()
    misnamed = tokens.secret_manifest(Token("cccccc", "x" * 16), expires=None)
    misnamed["metadata"]["name"] = "bootstrap-token-dddddd"
    objects = [
        tokens.secret_manifest(TOKEN, expires=NOW, description="for a rack", usages=("signing",), groups=()),
        {"metadata": {"name": "db"}, "type": "Opaque", "data": {"password": "eA=="}},
        tokens.secret_manifest(other, expires=None),
        broken,
        misnamed,
    ]
    assert tokens.listing(objects) == [
        tokens.TokenInfo("000000", None, "", ("signing", "authentication"), (tokens.DEFAULT_GROUP,)),
        tokens.TokenInfo("abcdef", NOW, "for a rack", ("signing",), ()),
    ]
    assert [info.expired(NOW) for info in tokens.listing(objects)] == [False, True]


def test_a_pin_is_what_openssl_makes_of_the_public_key(tmp_path: Path) -> None:
    key = pki.new_key("ECDSA-P256")
    pem = pki.certificate_pem(pki.self_signed("kubernetes", key, Cluster(), NOW))
    (tmp_path / "ca.crt").write_bytes(pem)
    pipe = "openssl x509 -pubkey -noout -in ca.crt | openssl pkey -pubin -outform der | sha256sum"
    done = subprocess.run(["sh", "-c", pipe], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert tokens.ca_cert_hash(pem) == f"sha256:{done.stdout.split()[0]}"
    assert tokens.ca_cert_hashes(pem + pem) == [tokens.ca_cert_hash(pem)] * 2


def test_a_pin_is_read_in_either_case() -> None:
    assert tokens.parse_ca_cert_hash("sha256:" + "AB" * 32) == "sha256:" + "ab" * 32


@pytest.mark.parametrize("text", ["", "ab" * 32, "sha256:" + "ab" * 31, "sha512:" + "ab" * 32, "sha256:" + "xy" * 32])
def test_malformed_pins_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="sha256: and 64"):
        tokens.parse_ca_cert_hash(text)

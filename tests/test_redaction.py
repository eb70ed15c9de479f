from __future__ import annotations

import base64
import dataclasses

import pytest

from bootstrap import paths, phases, pki, plan
from bootstrap.redaction import MASK, Secrets
from tests.builders import site

PEM = pki.key_pem(pki.new_key("ECDSA-P256"))


@pytest.fixture
def secrets() -> Secrets:
    known = Secrets()
    known.learn(PEM)
    return known


def test_ordinary_text_stays_as_it_is(secrets: Secrets) -> None:
    text = "worker1: phase certs/ca: /etc/kubernetes/pki/ca.crt: expires 2036-11-24"
    assert secrets.mask(text) == text


def test_each_line_of_a_key_is_masked_wherever_it_stands(secrets: Secrets) -> None:
    for line in PEM.decode().splitlines()[1:-1]:
        assert secrets.mask(f"before{line}after") == f"before{MASK}after"


def test_a_key_is_masked_in_one_line_and_in_base64(secrets: Secrets) -> None:
    body = "".join(PEM.decode().splitlines()[1:-1])
    assert body not in secrets.mask(body)
    encoded = base64.b64encode(PEM).decode()
    assert encoded.rstrip("=") not in secrets.mask(f"client-key-data: {encoded}")


def test_the_key_in_a_kubeconfig_is_learned_in_both_forms() -> None:
    known = Secrets()
    known.learn(f"users:\n- user:\n    client-key-data: {base64.b64encode(PEM).decode()}\n".encode())
    assert known.mask(PEM.decode().splitlines()[1]) == MASK


def test_a_token_is_learned_from_a_kubeconfig_and_its_secret_alone_is_masked() -> None:
    known = Secrets()
    known.learn(b"users:\n- user: {token: abcdef.0123456789abcdef}\n")
    assert known.mask("token 0123456789abcdef") == f"token {MASK}"
    assert known.mask("token id abcdef") == "token id abcdef"


def test_short_values_are_not_masked() -> None:
    known = Secrets()
    known.add("", "  ", "on", "abc")
    assert known.mask("on and on, abc") == "on and on, abc"


def test_a_longer_secret_is_masked_before_one_within_it() -> None:
    known = Secrets()
    known.add("inner-secret", "outer-inner-secret-outer")
    assert known.mask("outer-inner-secret-outer") == MASK


def test_certificates_are_no_secrets() -> None:
    known = Secrets()
    text = PEM.replace(b"EC PRIVATE KEY", b"CERTIFICATE").replace(b"PRIVATE KEY", b"CERTIFICATE")
    known.learn(text)
    assert known.mask(text.decode()) == text.decode()


def test_what_a_plan_hides_is_its_secret_files() -> None:
    made = site()
    key = dict.fromkeys([f"{paths.PKI}/ca.key"], PEM)
    files = {name: {**held, **key} for name, held in made.files.items()}
    todo = plan.build(phases.INIT, dataclasses.replace(made, files=files), nodes=made.control_plane)
    assert PEM in todo.hidden
    assert not [data for data in todo.hidden if b"-----BEGIN CERTIFICATE" in data and b"KEY" not in data]


def test_a_login_of_http_is_masked_as_it_is_sent_and_as_it_was_written() -> None:
    known = Secrets()
    sent = base64.b64encode(b"me:pass-word").decode()
    known.learn(f'authorization = ["Basic {sent}"]'.encode())
    assert known.mask(f"{sent} pass-word") == f"{MASK} {MASK}"

from __future__ import annotations

import base64
import datetime
from urllib.parse import unquote

import pytest

from bootstrap import certificate_key, tokens, uploading
from bootstrap.api import Api
from bootstrap.certificate_key import CertificateKey
from bootstrap.errors import CertificateKeyWrong, ConfigError, UsageError
from tests.apiserver import ApiServer

DIGITS = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
KEY = certificate_key.parse(DIGITS)
SECRETS = "/api/v1/namespaces/kube-system/secrets"
NOW = datetime.datetime(2026, 5, 17, 12, 0, 0, 7, tzinfo=datetime.UTC)
FILES = {path: f"what is in {path}\n".encode() for path in certificate_key.FILES.values()}
OWNER = {"metadata": {"name": "bootstrap-token-abcdef", "uid": "1-2-3"}}


def test_what_kubeadm_encrypted_is_decrypted() -> None:
    # Made by kubeadm's EncryptBytes (util/crypto, v1.37.2).
    sealed = base64.b64decode("Ke4/NGeKKBqsq0FTzJ3lwKFVu5HYmC83fdE2nNNlXgLzQNi2nrLprJSkLOsXpHDcdUkmpVwPPao=")
    assert certificate_key.decrypt(sealed, KEY) == b"-----BEGIN CERTIFICATE-----\n"


def test_what_is_encrypted_differs_each_time_and_opens_with_its_key_alone() -> None:
    sealed = certificate_key.encrypt(b"data", KEY)
    assert sealed != certificate_key.encrypt(b"data", KEY)
    assert certificate_key.decrypt(sealed, KEY) == b"data"
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for data, key in ((sealed, certificate_key.make()), (damaged, KEY), (sealed[:5], KEY), (b"", KEY)):
        with pytest.raises(CertificateKeyWrong):
            certificate_key.decrypt(data, key)


def test_a_drawn_key_can_be_read_and_is_not_shown_by_accident() -> None:
    key = certificate_key.make()
    assert certificate_key.parse(f" {str(key).upper()}\n") == key
    assert len(str(key)) == 64
    assert str(key) not in repr(key)


@pytest.mark.parametrize("text", ["", DIGITS[:-1], f"{DIGITS}0", "x" * 64])
def test_malformed_keys_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        certificate_key.parse(text)
    assert not text or text not in str(refused.value)


def test_the_secret_has_kubeadms_names_and_gives_the_files_back() -> None:
    manifest = certificate_key.secret_manifest(FILES, KEY, owner=OWNER)
    assert sorted(manifest["data"]) == [
        "ca.crt",
        "ca.key",
        "etcd-ca.crt",
        "etcd-ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "sa.key",
        "sa.pub",
    ]
    assert certificate_key.read_secret(manifest, KEY) == FILES
    manifest["data"]["ca.key"] = ""
    assert "/etc/kubernetes/pki/ca.key" not in certificate_key.read_secret(manifest, KEY)


def test_secrets_that_hold_something_else_are_refused() -> None:
    manifest = certificate_key.secret_manifest(FILES, KEY, owner=OWNER)
    with pytest.raises(CertificateKeyWrong):
        certificate_key.read_secret(manifest, CertificateKey(bytes(32)))
    data = {name: value for name, value in manifest["data"].items() if name != "sa.key"}
    with pytest.raises(ConfigError, match=r"does not hold sa\.key"):
        certificate_key.read_secret({"data": data}, KEY)
    with pytest.raises(ConfigError, match="damaged"):
        certificate_key.read_secret({"data": manifest["data"] | {"ca.crt": "!"}}, KEY)


def test_an_upload_lives_as_long_as_its_token_which_is_good_for_nothing_else(server: ApiServer, api: Api) -> None:
    expires = uploading.upload(api, FILES, KEY, NOW)
    assert expires == datetime.datetime(2026, 5, 17, 14, 0, tzinfo=datetime.UTC)
    (token,) = (value for path, value in server.objects.items() if f"{SECRETS}/bootstrap-token-" in path)
    info = tokens.read_secret(token)
    assert info is not None
    assert (info.expires, info.usages, info.groups) == (expires, (), ())
    uploaded = server.objects[f"{SECRETS}/kubeadm-certs"]
    (owner,) = uploaded["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "v1",
        "kind": "Secret",
        "name": token["metadata"]["name"],
        "uid": token["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert certificate_key.read_secret(uploaded, KEY) == FILES
    roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system"
    objects = {unquote(path): value for path, value in server.objects.items()}
    (rule,) = objects[f"{roles}/roles/kubeadm:kubeadm-certs"]["rules"]
    assert (rule["verbs"], rule["resources"], rule["resourceNames"]) == (["get"], ["secrets"], ["kubeadm-certs"])
    (subject,) = objects[f"{roles}/rolebindings/kubeadm:kubeadm-certs"]["subjects"]
    assert subject["name"] == "system:bootstrappers:kubeadm:default-node-token"


def test_an_upload_takes_the_place_of_the_one_before(server: ApiServer, api: Api) -> None:
    other = tokens.secret_manifest(tokens.make(), expires=None)
    server.put(f"{SECRETS}/{other['metadata']['name']}", other)
    uploading.upload(api, FILES, certificate_key.make(), NOW)
    uploading.upload(api, FILES, KEY, NOW)
    uploaded = server.objects[f"{SECRETS}/kubeadm-certs"]
    assert certificate_key.read_secret(uploaded, KEY) == FILES
    names = {path.rpartition("/")[2] for path in server.objects if f"{SECRETS}/bootstrap-token-" in path}
    assert names == {other["metadata"]["name"], uploaded["metadata"]["ownerReferences"][0]["name"]}


def test_a_host_without_a_key_of_a_ca_gives_nothing_to_upload() -> None:
    lacking = {path: data for path, data in FILES.items() if not path.endswith("ca.key")}
    with pytest.raises(ConfigError) as refused:
        uploading.require_all("cp1", lacking)
    assert "cp1: there is no /etc/kubernetes/pki/ca.key, " in str(refused.value)
    assert "/etc/kubernetes/pki/etcd/ca.key" in str(refused.value)
    uploading.require_all("cp1", FILES)

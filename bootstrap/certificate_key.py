"""The certificate key, and what control planes share, encrypted with it and kept in the cluster for those that join.

kubeadm's format to the byte (`phases/copycerts`, `util/crypto`; kubeadm-facts section 12), so that its join reads what
is made here, and ours reads what it made. Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from bootstrap import paths
from bootstrap.errors import CertificateKeyWrong, ConfigError, UsageError
from bootstrap.steps import Json

NAMESPACE = "kube-system"
SECRET = "kubeadm-certs"  # noqa: S105 (the object's name)
LIFETIME = timedelta(hours=2)
"""How long what was uploaded stays in the cluster."""
TOKEN_DESCRIPTION = "Proxy for managing TTL for the kubeadm-certs secret"  # noqa: S105 (kubeadm's words)

FILES: Mapping[str, str] = MappingProxyType(
    {
        name.replace("/", "-"): f"{paths.PKI}/{name}"
        for name in (
            "ca.crt",
            "ca.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "sa.pub",
            "sa.key",
            "etcd/ca.crt",
            "etcd/ca.key",
        )
    }
)
"""What control planes share where etcd runs on them: paths by the names that they have in the Secret."""

_KEY_BYTES, _NONCE_BYTES = 32, 12
_HEX = re.compile(rf"[0-9a-fA-F]{{{2 * _KEY_BYTES}}}")


@dataclass(frozen=True, slots=True)
class CertificateKey:
    """A key of AES-256."""

    value: bytes = field(repr=False)

    def __str__(self) -> str:
        """Give it as kubeadm takes it, in hexadecimal digits: a secret, for files and standard output alone."""
        return self.value.hex()


def make() -> CertificateKey:
    """Draw a key from the system's randomness."""
    return CertificateKey(secrets.token_bytes(_KEY_BYTES))


def parse(text: str) -> CertificateKey:
    """Read 64 hexadecimal digits, surrounding white space allowed. Raises `UsageError`, which does not repeat them."""
    if _HEX.fullmatch(text.strip()) is None:
        raise UsageError(
            "the certificate key is malformed; it must be 64 hexadecimal digits, as `kubestrap certs upload` gives it"
        )
    return CertificateKey(bytes.fromhex(text.strip()))


def secret_manifest(files: Mapping[str, bytes], key: CertificateKey, *, owner: Json) -> dict[str, Any]:
    """Give the Secret that holds those of `files` (by path) that control planes share, encrypted with `key`.

    It goes when `owner` goes, the Secret of a bootstrap token, as the cluster gave it. A file that there is not is
    empty in it, as a CA's key is that is kept elsewhere.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": NAMESPACE,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "type": "Opaque",
        "data": {
            name: base64.b64encode(encrypt(files[path], key)).decode() if path in files else ""
            for name, path in FILES.items()
        },
    }


def read_secret(manifest: Json, key: CertificateKey) -> dict[str, bytes]:
    """Give the files that such a Secret holds, by path; those that are empty in it are left out.

    Raises `CertificateKeyWrong` where `key` is not the one that it was encrypted with, and `ConfigError` where it is
    not of this form.
    """
    data = manifest.get("data") or {}
    if missing := [name for name in FILES if name not in data]:
        raise ConfigError(f"Secret {NAMESPACE}/{SECRET} does not hold {', '.join(missing)}")
    try:
        encrypted = {FILES[name]: base64.b64decode(data[name] or "", validate=True) for name in FILES}
    except binascii.Error as error:
        raise ConfigError(f"Secret {NAMESPACE}/{SECRET} is damaged: {error}") from error
    return {path: decrypt(value, key) for path, value in encrypted.items() if value}


def encrypt(data: bytes, key: CertificateKey) -> bytes:
    """Encrypt `data` by AES-256-GCM: a nonce of its own, then the ciphertext with its tag."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key.value).encrypt(nonce, data, None)


def decrypt(data: bytes, key: CertificateKey) -> bytes:
    """Undo `encrypt`. Raises `CertificateKeyWrong` where it was another key, or `data` are damaged."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key.value).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as error:
        raise CertificateKeyWrong(
            "the certificate key is not the one of this upload: every upload has its own, and replaces the one before; "
            "ask for the last one's, or upload anew (`kubestrap certs upload`)"
        ) from error

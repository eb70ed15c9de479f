"""Bootstrap tokens: drawing and reading them, their Secrets, and the signature of cluster-info.

kubeadm-facts sections 10 and 11; `cluster-bootstrap/token/jws`, `cluster-bootstrap/token/api`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import json
import re
import secrets
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap.errors import UsageError
from bootstrap.site import Token
from bootstrap.steps import Json

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"  # noqa: S105 (the type's name)
SECRET_PREFIX = "bootstrap-token-"  # noqa: S105 (a part of the object's name)
DEFAULT_GROUP = "system:bootstrappers:kubeadm:default-node-token"
USAGES = ("signing", "authentication")
JWS_PREFIX = "jws-kubeconfig-"
"""What the keys of ConfigMap kube-public/cluster-info begin with that hold signatures; the token's id follows."""

_ALPHABET = string.ascii_lowercase + string.digits
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as the cluster holds it, without its secret. `expires` is None for one that never does."""

    id: str
    expires: datetime.datetime | None
    description: str
    usages: tuple[str, ...]
    groups: tuple[str, ...]

    def expired(self, now: datetime.datetime) -> bool:
        """Say whether it is of no use any more."""
        return self.expires is not None and self.expires <= now


def make() -> Token:
    """Draw a token from the system's randomness."""
    return Token(_draw(6), _draw(16))


def _draw(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def parse(text: str) -> Token:
    """Read `id.secret`, surrounding white space allowed. Raises `UsageError`, which does not repeat the text."""
    if (match := _TOKEN.fullmatch(text.strip())) is None:
        raise UsageError(
            "the token is malformed; it must be 6 characters, a dot and 16 characters, of a-z and 0-9, "
            "as `kubestrap token create` prints it"
        )
    return Token(match[1], match[2])


def parse_id(text: str) -> str:
    """Read a token's id from itself or from the whole token. Raises `UsageError`, which does not repeat the text."""
    if re.fullmatch(r"[a-z0-9]{6}", text.strip()):
        return text.strip()
    return parse(text).id


def parse_ca_cert_hash(text: str) -> str:
    """Read `sha256:` and 64 hexadecimal digits; gives them in lower case. Raises `UsageError`."""
    if _HASH.fullmatch(text.strip()) is None:
        raise UsageError(
            f"{text!r} is not the hash of a CA's public key; it must be sha256: and 64 hexadecimal digits, "
            "as `kubestrap token create --print-join-command` prints it"
        )
    return text.strip().lower()


def secret_name(token_id: str) -> str:
    """Give the name of a token's Secret in `NAMESPACE`."""
    return f"{SECRET_PREFIX}{token_id}"


def secret_manifest(
    token: Token,
    *,
    expires: datetime.datetime | None,
    description: str = "",
    usages: Sequence[str] = USAGES,
    groups: Sequence[str] = (DEFAULT_GROUP,),
) -> dict[str, Any]:
    """Give the Secret that makes `token` valid, until `expires` where one is given.

    Raises `UsageError` for a usage or a group that bootstrap tokens cannot have.
    """
    if unknown := sorted(set(usages) - set(USAGES)):
        raise UsageError(f"no such usage of a token: {', '.join(unknown)}; there are {', '.join(USAGES)}")
    if bad := [group for group in groups if not _GROUP.fullmatch(group)]:
        raise UsageError(f"not a group for a token: {', '.join(bad)}; it must begin with system:bootstrappers:")
    data = {"token-id": token.id, "token-secret": token.secret}
    if description:
        data["description"] = description
    if expires is not None:
        data["expiration"] = expires.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data |= {f"usage-bootstrap-{usage}": "true" for usage in USAGES if usage in usages}
    if groups:
        data["auth-extra-groups"] = ",".join(groups)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(token.id), "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def listing(objects: Iterable[Json]) -> list[TokenInfo]:
    """Give the tokens among Secrets read from the cluster, by id. One that no token can be read from is left out."""
    found = (read_secret(item) for item in objects if item.get("type") == SECRET_TYPE)
    return sorted((info for info in found if info is not None), key=lambda info: info.id)


def read_secret(manifest: Json) -> TokenInfo | None:
    """Give the token of a Secret, None for one that holds none: another id than its name says, or a broken date."""
    try:
        data = {key: base64.b64decode(value).decode() for key, value in (manifest.get("data") or {}).items()}
        expiration = data.get("expiration")
        expires = datetime.datetime.fromisoformat(expiration) if expiration else None
    except (ValueError, binascii.Error):
        return None
    token_id = data.get("token-id", "")
    if manifest["metadata"]["name"] != secret_name(token_id) or not token_id:
        return None
    return TokenInfo(
        token_id,
        None if expires is None else expires.astimezone(datetime.UTC),
        data.get("description", ""),
        tuple(usage for usage in USAGES if data.get(f"usage-bootstrap-{usage}") == "true"),
        tuple(group for group in data.get("auth-extra-groups", "").split(",") if group),
    )


def sign(content: bytes, token: Token) -> str:
    """Give the detached JWS of `content` (RFC 7515 appendix F, HS256) as bootstrapsigner makes it for `token`."""
    header = _base64url(json.dumps({"alg": "HS256", "kid": token.id}, separators=(",", ":")).encode())
    signed = f"{header}.{_base64url(content)}".encode()
    return f"{header}..{_base64url(hmac.digest(token.secret.encode(), signed, 'sha256'))}"


def verify(signature: str, content: bytes, token: Token) -> bool:
    """Say whether `signature` is that of `content` with `token`."""
    return hmac.compare_digest(signature.encode(), sign(content, token).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ca_cert_hash(pem: bytes) -> str:
    """Give the pin of a CA's certificate: `sha256:` and the hex SHA-256 of its public key (SubjectPublicKeyInfo)."""
    return ca_cert_hashes(pem)[0]


def ca_cert_hashes(pem: bytes) -> list[str]:
    """Give the pins of all certificates of a bundle. Raises `ValueError` where there is none."""
    from cryptography import x509  # here: `kubestrap token list` needs none of it
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    keys = [certificate.public_key() for certificate in x509.load_pem_x509_certificates(pem)]
    spki = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    return [f"sha256:{hashlib.sha256(der).hexdigest()}" for der in spki]

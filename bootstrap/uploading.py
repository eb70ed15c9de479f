"""What control planes share, put into the cluster for those that join by a certificate key (`certificate_key`)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from http import HTTPStatus

from bootstrap import certificate_key, cluster, tokens
from bootstrap.api import Api
from bootstrap.certificate_key import CertificateKey
from bootstrap.errors import ApiError, ConfigError, TokenRefused
from bootstrap.phases import objects

_ROLE = "kubeadm:kubeadm-certs"


def require_all(host: str, files: Mapping[str, bytes]) -> None:
    """See that `host` holds all that is to be uploaded. Raises `ConfigError`."""
    if missing := [path for path in certificate_key.FILES.values() if path not in files]:
        raise ConfigError(
            f"{host}: there is no {', '.join(missing)}: a control plane that joins by a certificate key signs its own "
            "certificates, which takes all of them; nothing was uploaded"
        )


def upload(api: Api, files: Mapping[str, bytes], key: CertificateKey, now: datetime.datetime) -> datetime.datetime:
    """Put `files` into the cluster, encrypted with `key`, in the place of an earlier upload; give when they go again.

    As kubeadm does (`phases/copycerts`): the Secret belongs to that of a bootstrap token, which is good for nothing and
    which the cluster deletes when its time is over. Bootstrap tokens that nodes join with may read it.
    """
    _remove(api)
    expires = now.replace(microsecond=0) + certificate_key.LIFETIME
    token = tokens.secret_manifest(
        tokens.make(), expires=expires, description=certificate_key.TOKEN_DESCRIPTION, usages=(), groups=()
    )
    owner = api.create(token)
    reading = objects.rule(["get"], ["secrets"], names=[certificate_key.SECRET])
    cluster.do(objects.role(_ROLE, [reading], namespace=objects.SYSTEM), api)
    subjects = [objects.group(objects.BOOTSTRAPPERS)]
    cluster.do(objects.binding(_ROLE, _ROLE, subjects, namespace=objects.SYSTEM), api)
    api.create(certificate_key.secret_manifest(files, key, owner=owner))
    return expires


def download(api: Api, key: CertificateKey) -> dict[str, bytes]:
    """Give, by path, what was uploaded to the cluster, asked with the rights of a bootstrap token.

    Raises `ConfigError` where there is nothing, `CertificateKeyWrong` where `key` is not the one that it was uploaded
    with, and `TokenRefused` where the token may not read it.
    """
    again = "upload it (`kubestrap certs upload`, or `kubeadm init phase upload-certs --upload-certs`)"
    try:
        found = api.get_object("v1", "Secret", certificate_key.SECRET, certificate_key.NAMESPACE)
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        what = f"the token may not read Secret {certificate_key.NAMESPACE}/{certificate_key.SECRET}"
        raise TokenRefused(api.host.name, f"{what} ({error}): {again}") from error
    if found is None:
        what = "nothing is there for control planes that join: it was never uploaded, or its two hours are over"
        raise ConfigError(f"{what}; {again}")
    return certificate_key.read_secret(found, key)


def _remove(api: Api) -> None:
    """Delete an earlier upload, with the token that it belongs to."""
    name, namespace = certificate_key.SECRET, certificate_key.NAMESPACE
    earlier = api.get_object("v1", "Secret", name, namespace)
    if earlier is None:
        return
    for owner in earlier["metadata"].get("ownerReferences", ()):
        if owner["kind"] == "Secret" and owner["name"].startswith(tokens.SECRET_PREFIX):
            api.delete("v1", "Secret", owner["name"], namespace)
    api.delete("v1", "Secret", name, namespace)

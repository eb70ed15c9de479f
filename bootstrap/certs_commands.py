"""`kubestrap certs`: what control planes share, for those that join by a certificate key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    InventoryOption,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
)

app = typer.Typer(help="Let control planes join by a certificate key.", no_args_is_help=True)


@app.callback()
def certs() -> None:
    """Be a group, though of one command."""


@app.command()
def upload(
    inventory: InventoryOption = INVENTORY,
    certificate_key_file: Annotated[
        Path | None,
        typer.Option(help="Where the key goes (0600). Else it is shown.", metavar="FILE", show_default=False),
    ] = None,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Put the CAs into the cluster for two hours, encrypted, and give the key.

    As kubeadm's upload-certs: with the key and a token, control planes join without anything else. Whoever has both
    rules the cluster. An earlier upload and its key are of no use any more.
    """
    import datetime

    from bootstrap import certificate_key, uploading, userfiles
    from bootstrap import inventory as inventories
    from bootstrap.errors import ConfigError
    from bootstrap.run import reached_control_plane

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    if read.cluster.ca_directory:
        raise ConfigError(
            "cluster.certificateAuthority.kind is operator: the keys of the CAs do not leave "
            f"{read.cluster.ca_directory}, and control planes join by the inventory alone"
        )
    key = certificate_key.make()
    output.secrets.learn(str(key).encode())
    with reached_control_plane(read) as control_plane, control_plane.api() as api:
        uploading.require_all(control_plane.node.name, control_plane.files)
        expires = uploading.upload(api, control_plane.files, key, datetime.datetime.now(datetime.UTC))
    data: dict[str, object] = {"expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}
    output.note(f"Until {data['expires']} control planes join by this key and a token (`kubestrap token create`):")
    output.note("kubestrap join --control-plane, or kubeadm join --control-plane --certificate-key KEY, with the rest.")
    if certificate_key_file is None:
        output.result(data | {"certificateKey": str(key)}, str(key))
        return
    userfiles.write(certificate_key_file, f"{key}\n".encode())
    output.note(f"The key is at {certificate_key_file}.")
    output.result(data | {"certificateKeyFile": str(certificate_key_file)})

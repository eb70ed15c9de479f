"""`kubestrap join`: make Nodes of workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    DetailedExitcode,
    DryRun,
    Force,
    IgnorePreflight,
    InventoryOption,
    Limit,
    OutputOption,
    PhaseNames,
    SkipPhases,
    SshBackendOption,
    SudoPasswordFile,
    Until,
    listed,
    require_no_options,
    require_together,
)

if TYPE_CHECKING:
    from bootstrap.certificate_key import CertificateKey
    from bootstrap.gather import Request
    from bootstrap.joining import Invitation
    from bootstrap.output import Output

app = typer.Typer()


Server = Annotated[
    str, typer.Option(help="Join the cluster of this API server, by its token alone.", metavar="HOST:PORT")
]
CaCertHash = Annotated[
    list[str] | None, typer.Option(help="What the cluster's CA must be; may be repeated.", metavar="sha256:HEX")
]
TokenFile = Annotated[
    str, typer.Option(help="Where the token stands; - is standard input. Else it is asked for.", metavar="FILE")
]
ControlPlane = Annotated[
    bool, typer.Option("--control-plane", help="With --server: join the control-plane hosts, by a certificate key.")
]
CertificateKeyFile = Annotated[
    str,
    typer.Option(help="Where the certificate key stands; - is standard input. Else it is asked for.", metavar="FILE"),
]


@app.callback(invoke_without_command=True)
def join(
    context: typer.Context,
    inventory: InventoryOption = INVENTORY,
    server: Server = "",
    ca_cert_hash: CaCertHash = None,
    token_file: TokenFile = "",
    control_plane: ControlPlane = False,
    certificate_key_file: CertificateKeyFile = "",
    skip_phases: SkipPhases = None,
    until: Until = "",
    limit: Limit = None,
    ignore_preflight_errors: IgnorePreflight = None,
    force: Force = False,
    dry_run: DryRun = False,
    detailed_exitcode: DetailedExitcode = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Join the inventory's workers to the cluster, all at once.

    With --server it takes no admin rights: discovery is kubeadm's, by --ca-cert-hash and a token. With --control-plane
    these are the control-plane hosts, by the key of what was uploaded for them (certs upload).
    """
    from bootstrap.gather import Request

    if context.invoked_subcommand:
        require_no_options(context)
        return
    request = Request(
        listed(skip_phases),
        listed(ignore_preflight_errors),
        output.secrets,
        until=until,
        limit=listed(limit),
        force=force,
    )
    way = _Way(server, listed(ca_cert_hash), token_file, control_plane, certificate_key_file)
    _go(
        inventory,
        request,
        way,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new, ssh_backend),
    )


@app.command()
def phase(
    names: PhaseNames,
    inventory: InventoryOption = INVENTORY,
    server: Server = "",
    ca_cert_hash: CaCertHash = None,
    token_file: TokenFile = "",
    limit: Limit = None,
    ignore_preflight_errors: IgnorePreflight = None,
    force: Force = False,
    dry_run: DryRun = False,
    detailed_exitcode: DetailedExitcode = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Do these phases of join alone, in join's order.

    Machines are looked at first as always, and what the phases build on must be there already.
    """
    from bootstrap.gather import Request

    request = Request(
        (),
        listed(ignore_preflight_errors),
        output.secrets,
        only=listed(names),
        limit=listed(limit),
        force=force,
    )
    way = _Way(server, listed(ca_cert_hash), token_file)
    _go(
        inventory,
        request,
        way,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new, ssh_backend),
    )


class _Way(NamedTuple):
    """What the command line says of how to join."""

    server: str
    hashes: tuple[str, ...]
    token_file: str
    control_plane: bool = False
    certificate_key_file: str = ""

    def check(self, sudo_password_file: str, *, looking: bool) -> None:
        """Raise `UsageError` for what does not go together."""
        from bootstrap.errors import UsageError

        files = {
            "--token-file": self.token_file,
            "--certificate-key-file": self.certificate_key_file,
            "--sudo-password-file": sudo_password_file,
        }
        from_stdin = [option for option, file in files.items() if file == "-"]
        if len(from_stdin) > 1:
            raise UsageError(f"{' and '.join(from_stdin)} cannot both be standard input")
        if not self.server and (self.hashes or self.token_file):
            raise UsageError("--ca-cert-hash and --token-file go with --server, which is missing")
        if self.certificate_key_file and not self.control_plane:
            raise UsageError("--certificate-key-file goes with --control-plane, which is missing")
        if self.control_plane and not self.server:
            raise UsageError(
                "--control-plane goes with --server: without it the inventory tells who is a control plane"
            )
        if self.control_plane and looking:
            raise UsageError(
                "--dry-run cannot tell what a host gets that etcd does not know yet: leave --control-plane out"
            )


def _go(
    inventory: Path,
    request: Request,
    way: _Way,
    *,
    output: Output,
    looking: bool,
    detailed_exitcode: bool,
    access: Access,
) -> None:
    from bootstrap import inventory as inventories
    from bootstrap import joining
    from bootstrap.trial import require_fitting

    way.check(access.sudo_password_file, looking=looking)
    require_together(looking=looking, detailed_exitcode=detailed_exitcode)
    read = access.to(inventories.load(inventory, control_plane=not way.server))
    inventories.require_supported(read)
    require_fitting(read)
    invitation = _invitation(way) if way.server else None
    key = _certificate_key(way.certificate_key_file) if way.control_plane else None
    if key:
        output.secrets.learn(str(key).encode())
    if invitation:
        output.secrets.learn(str(invitation.token).encode())
    if looking:
        from bootstrap import diff
        from bootstrap.diff_commands import showing

        with showing(output, detailed_exitcode=detailed_exitcode) as found:
            diff.join(read, request, output.warn, found, invitation)
        return
    hosts = [host.name for host in read.hosts if (host.is_control_plane if key else host.is_worker)]
    hosts = [name for name in hosts if not request.limit or name in request.limit]
    with output.run("join", read, hosts) as listener:
        if invitation and key:
            from bootstrap import inviting

            joined = inviting.join_control_planes(read, invitation, key, request, listener, output.warn, joining.DOING)
        elif invitation:
            joined = joining.join_invited(read, invitation, request, listener, output.warn)
        else:
            joined = joining.join(read, request, listener, output.warn)
    if joined.commands:
        output.note("Somebody with admin rights on the cluster may add the role's label:")
    output.result({"joined": joined.hosts, "commands": joined.commands}, "\n".join(joined.commands))


def _invitation(way: _Way) -> Invitation:
    from bootstrap import discovery, tokens
    from bootstrap.errors import UsageError
    from bootstrap.joining import Invitation

    discovery.parse_server(way.server)
    if not way.hashes:
        raise UsageError("--ca-cert-hash is missing: without it anybody could answer for the cluster")
    checked = tuple(tokens.parse_ca_cert_hash(text) for text in way.hashes)
    return Invitation(way.server, checked, tokens.parse(_secret(way.token_file, "token", "--token-file")))


def _certificate_key(source: str) -> CertificateKey:
    from bootstrap import certificate_key

    return certificate_key.parse(_secret(source, "certificate key", "--certificate-key-file"))


def _secret(source: str, what: str, option: str) -> str:
    import sys
    from getpass import getpass

    from bootstrap.errors import UsageError

    if source == "-":
        return sys.stdin.readline() if sys.stdin is not None else ""
    if source:
        return Path(source).read_text(encoding="utf-8", errors="replace")
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"the {what} cannot be asked for without a terminal: give {option} FILE, or - for stdin")
    return getpass(f"{what.capitalize()}: ")

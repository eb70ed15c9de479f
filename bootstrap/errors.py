"""The errors a run can end with. Each knows its exit code; none is told apart by its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


class BootstrapError(Exception):
    """Something foreseeable went wrong. `str()` is the whole message for the user; `exit_code` is the process's.

    `prefix` stands before the message; it is empty where each line begins with a place in a file.
    """

    exit_code: ClassVar[int] = 1
    prefix: ClassVar[str] = "Error: "


class UsageError(BootstrapError):
    """The command line asks for something that cannot be done as it stands."""

    exit_code = 2


class ConfigError(BootstrapError):
    """A file the user wrote (or a bundle somebody made) cannot be used."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Misfit:
    """A patch that does not fit what it patches, or does what none may: its place in a file, and why.

    With `depends` it may fit on machines that were looked at.
    """

    file: str
    line: int
    column: int
    what: str
    depends: bool = False

    def __str__(self) -> str:
        """Give the line for people."""
        return f"{self.file}:{self.line}:{self.column}: {self.what}"


class PatchesRefused(ConfigError):
    """Patches cannot be applied to what would be written. Carries each of them; no machine was changed."""

    prefix = ""

    def __init__(self, misfits: Sequence[Misfit]) -> None:
        super().__init__("\n".join(map(str, misfits)))
        self.misfits = tuple(misfits)


class CertificateKeyWrong(ConfigError):
    """What was uploaded for control planes that join was not encrypted with this certificate key."""


class NoControlPlane(ConfigError):
    """The machine that should have a control plane has none."""


class NotSupported(BootstrapError):
    """What was asked for is valid, but this version does not do it yet."""

    exit_code = 12


class HostError(BootstrapError):
    """Something about one host. `host` is its name in the inventory."""

    def __init__(self, host: str, what: str) -> None:
        super().__init__(f"{host}: {what}")
        self.host = host
        self.what = what


class NodeAddressUnclear(HostError):
    """The inventory leaves open, or gets wrong, which address of a machine the cluster is to use."""

    exit_code = 3


class OtherCluster(HostError):
    """The machine is a Node of another cluster than the inventory says (`cluster.caCertHash`)."""

    exit_code = 3


class Unreachable(HostError):
    """No connection could be made: name not resolved, refused, no route, or no answer in time."""

    exit_code = 5


class AlgorithmsRefused(Unreachable):
    """The server offers only weak algorithms (CBC, 3DES, SHA-1, MD5) for some part of the connection."""


class ConnectionLost(HostError):
    """An open connection ended, or stopped answering, in the middle of work."""

    exit_code = 5


class HostKeyRefused(HostError):
    """The server's host key is unknown, changed or revoked. Nothing was sent to it."""

    exit_code = 6


class AuthenticationRefused(HostError):
    """The server accepts none of the user's keys."""

    exit_code = 7


class SudoRefused(HostError):
    """The login works, but becoming root does not."""

    exit_code = 7


class SudoPasswordWrong(SudoRefused):
    """sudo asks for a password, and the one that was given is wrong. It was tried once."""


class CommandTimedOut(HostError):
    """A command on a host did not end within its limit; it was ended."""

    exit_code = 10


class Locked(HostError):
    """Another run works on the machine. `owner` says whose, which command, and since when."""

    exit_code = 9

    def __init__(self, host: str, owner: str) -> None:
        super().__init__(
            host,
            f"the machine is locked: {owner}. Wait for its end; the lock of a run that died lapses within 30 s, "
            "and `kubestrap unlock` takes it from one that hangs",
        )
        self.owner = owner


class LockLost(HostError):
    """The machine's lock went to another run, or was taken away, in the middle of work."""

    exit_code = 9


class LeaseHeld(BootstrapError):
    """Another run changes the control plane. `holder` says whose, which command, and since when."""

    exit_code = 9

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f"the control plane is being changed already: {holder}. Wait for its end (it holds the Lease "
            f"kube-system/{name}; that of a run that died lapses within 30 s)"
        )
        self.holder = holder


class LeaseLost(BootstrapError):
    """The Lease of changes of the control plane was not renewed in time, or another run took it, in the middle."""

    exit_code = 9

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the Lease kube-system/{name} was lost (it was not renewed in time, or another run took it), so nothing "
            "more is done. Run the same command again"
        )


class WaitTimedOut(HostError):
    """Something waited for did not come about within its limit."""

    exit_code = 10


class StepFailed(HostError):
    """A step of a phase failed on a host."""

    def __init__(self, host: str, phase: str, step: str, what: str) -> None:
        super().__init__(host, f"phase {phase}: {step}: {what}")
        self.phase = phase
        self.step = step


class NotDeparted(HostError):
    """A machine is not reset, for its Node could not be taken out of the cluster. The exit code is the cause's."""

    def __init__(self, host: str, what: str, exit_code: int) -> None:
        super().__init__(
            host,
            f"its Node could not be taken out of the cluster: {what}. The machine was not changed. Run reset again, or "
            "with --force, which goes on in any case",
        )
        self.exit_code = exit_code  # type: ignore[misc]


def words(error: Exception) -> str:
    """Say why a host failed, without its name, which stands elsewhere."""
    return error.what if isinstance(error, HostError) else str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Problem:
    """What preflight found on one host. `check` is the name that `--ignore-preflight-errors` takes.

    Of the level `unchecked` is what could not be looked at: `what` says what, and why.
    """

    host: str
    check: str
    level: Literal["error", "warning", "unchecked"]
    what: str
    fix: str

    def __str__(self) -> str:
        """Tell it in one line."""
        return f"{self.host}: {self.check}: {self.what}; {self.fix}" if self.host else f"{self.what}; {self.fix}"


class PreflightFailed(BootstrapError):
    """Machines are not fit for use. Carries every problem of every host."""

    exit_code = 4

    def __init__(self, problems: Sequence[Problem]) -> None:
        hosts = {problem.host for problem in problems}
        count = f"{len(problems)} problem{'s' * (len(problems) != 1)} on {len(hosts)} host{'s' * (len(hosts) != 1)}"
        lines = [f"  {problem}" for problem in problems]
        after = "No machine was changed. --ignore-preflight-errors NAME,... goes on in spite of the checks it names."
        super().__init__("\n".join([f"preflight found {count}:", *lines, after]))
        self.problems = tuple(problems)


class AdoptionRefused(ConfigError):
    """Machines are no cluster that can be adopted. Carries every problem; `check` is an id of docs/adopt.md."""

    prefix = ""

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = [
            f"{f'{problem.host}: ' if problem.host else ''}{problem.what}; {problem.fix} [{problem.check}]"
            for problem in problems
        ]
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class PkiProblem:
    """Something wrong with a file of the PKI on a host. `what` follows the path in a sentence."""

    host: str
    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        """Give the line for people."""
        return f"{self.host}: {self.path} {self.what}; {self.fix}"


class PkiRefused(BootstrapError):
    """The machines hold certificates or keys that must be neither used nor replaced. Carries every problem."""

    exit_code = 3

    def __init__(self, problems: Sequence[PkiProblem]) -> None:
        lines = [f"  {problem}" for problem in problems]
        super().__init__("\n".join(["the certificates on the machines cannot be used; nothing was changed:", *lines]))
        self.problems = tuple(problems)


class VerificationFailed(BootstrapError):
    """Machines or the cluster are not as they should be. `failed` are the (host, check) that did not pass."""

    def __init__(self, failed: Sequence[tuple[str, str]]) -> None:
        names = ", ".join(f"{check} on {host}" for host, check in failed)
        super().__init__(f"{len(failed)} check{'s' * (len(failed) != 1)} failed: {names}")
        self.failed = tuple(failed)


class DiscoveryError(HostError):
    """A joining host cannot trust, reach or use the cluster it was pointed at. The host was not changed."""


class ServerUnreachable(DiscoveryError):
    """Nothing answers at the API server's address, as seen from the joining host, or it does not speak TLS."""

    exit_code = 5


class ClusterInfoUnusable(DiscoveryError):
    """The server publishes no readable cluster-info: it is no cluster that can be joined by token."""


class TokenUnknown(DiscoveryError):
    """The cluster has signed nothing with the token's id: it was never made, deleted, or has expired."""


class TokenRefused(DiscoveryError):
    """The cluster knows the token's id, but does not accept the token (expired, or lacking a usage or group)."""


class SignatureWrong(DiscoveryError):
    """cluster-info was not signed with the token's secret: the secret is wrong, or somebody answers in its place."""


class CaHashWrong(DiscoveryError):
    """No CA of the cluster has the expected hash."""


class CaMismatch(DiscoveryError):
    """The server's certificate was not signed by the CA that its own cluster-info names."""


class ApiUnreachable(HostError):
    """The API server does not answer, asked from the host."""

    exit_code = 5


class ApiUntrusted(HostError):
    """The API server's certificate is not one that the cluster's CA signed for the name it was called by."""


class EtcdAbsent(HostError):
    """The machine has no etcd member that kubestrap or kubeadm made."""

    exit_code = 3


class EtcdUnreachable(HostError):
    """The etcd member on the machine does not answer, asked on the machine itself."""

    exit_code = 5


class RecoveryUnfinished(HostError):
    """`etcd recover` was begun on the machine, and did not end: what another run starts may be a second cluster."""

    exit_code = 3


class EtcdRefused(HostError):
    """The etcd member answers with an error, or with what cannot be used. `reason` is the API's word for it."""

    def __init__(self, host: str, what: str, *, reason: str = "") -> None:
        super().__init__(host, what)
        self.reason = reason


class EtcdUnfit(BootstrapError):
    """etcd is not in the state in which something can be done to it. Carries every reason."""

    def __init__(self, what: str, reasons: Sequence[str], after: str = "") -> None:
        lines = [f"  {reason}" for reason in reasons]
        super().__init__("\n".join([f"{what}:", *lines, *([after] if after else [])]))
        self.reasons = tuple(reasons)


class QuorumLost(BootstrapError):
    """Too few of etcd's members are there to agree on anything, so that nothing can be written.

    Carries what is known of each, and how many of its voting members are `needed`.
    """

    exit_code = 13

    def __init__(self, reasons: Sequence[str], needed: int, voters: int) -> None:
        lines = [f"  {reason}" for reason in reasons]
        after = (
            f"{needed} of its {voters} members must run and reach each other (port 2380). Start the machines that are "
            "down; where they are lost, `kubestrap etcd recover` goes on with a survivor's data, or a snapshot's."
        )
        super().__init__("\n".join(["etcd has no quorum, so nothing can be written:", *lines, after]))
        self.reasons = tuple(reasons)
        self.needed = needed


class SnapshotRefused(ConfigError):
    """A file is no snapshot of etcd that is whole. Carries its path."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class ApiError(BootstrapError):
    """The API server refused a request.

    `status` is the HTTP status, `reason` the Status object's reason, `kind` that of its details (`namespaces`),
    `said` its own words alone.
    """

    def __init__(self, what: str, *, status: int, reason: str = "", kind: str = "", said: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.reason = reason
        self.kind = kind
        self.said = said or what


class HostsFailed(BootstrapError):
    """One or more hosts failed. Carries each host's error; the other hosts' work stands.

    The exit code is the hosts' own where they agree and no host succeeded, else 8 (partial).
    """

    def __init__(self, failures: Mapping[str, BootstrapError], succeeded: Sequence[str] = ()) -> None:
        super().__init__("\n".join(str(error) for error in failures.values()))
        self.failures = dict(failures)
        self.succeeded = tuple(succeeded)

    @property
    def code(self) -> int:
        """The exit code of the process for these failures."""
        codes = {error.exit_code for error in self.failures.values()}
        return codes.pop() if len(codes) == 1 and not self.succeeded else 8


class LabError(BootstrapError):
    """Something about a lab of throw-away machines failed: a tool, a machine, or what was asked of it."""


class LabTimedOut(LabError):
    """Something a lab waits for did not come about within its limit."""

    exit_code = 10


class LabUnavailable(ConfigError):
    """Labs cannot run on this host as it stands. Carries everything it lacks."""

    def __init__(self, lacks: Sequence[str]) -> None:
        super().__init__("\n".join(["This host cannot run a lab yet:", *(f"  {lack}" for lack in lacks)]))
        self.lacks = tuple(lacks)

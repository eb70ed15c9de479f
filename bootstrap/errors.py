"""The errors a run can end with. Each knows its exit code; none is told apart by its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class BootstrapError(Exception):
    """Something foreseeable went wrong. `str()` is the whole message for the user; `exit_code` is the process's."""

    exit_code: ClassVar[int] = 1


class UsageError(BootstrapError):
    """The command line asks for something that cannot be done as it stands."""

    exit_code = 2


class ConfigError(BootstrapError):
    """A file the user wrote (or a bundle somebody made) cannot be used."""

    exit_code = 3


class NotSupported(BootstrapError):
    """What was asked for is valid, but this version does not do it yet."""

    exit_code = 12


class HostError(BootstrapError):
    """Something about one host. `host` is its name in the inventory."""

    def __init__(self, host: str, what: str) -> None:
        super().__init__(f"{host}: {what}")
        self.host = host
        self.what = what


class Unreachable(HostError):
    """No connection could be made: name not resolved, refused, no route, or no answer in time."""

    exit_code = 5


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


class CommandTimedOut(HostError):
    """A command on a host did not end within its limit; it was ended."""

    exit_code = 10


class WaitTimedOut(HostError):
    """Something waited for did not come about within its limit."""

    exit_code = 10


class StepFailed(HostError):
    """A step of a phase failed on a host."""

    def __init__(self, host: str, phase: str, step: str, what: str) -> None:
        super().__init__(host, f"phase {phase}: {step}: {what}")
        self.phase = phase
        self.step = step


class PreflightFailed(BootstrapError):
    """Machines are not fit for use. Carries every problem of every host."""

    exit_code = 4


class DiscoveryError(HostError):
    """A joining host cannot trust, reach or use the cluster it was pointed at. The host was not changed."""


class ApiError(BootstrapError):
    """The API server refused a request. `status` is the HTTP status, `reason` the Status object's reason."""

    def __init__(self, what: str, *, status: int, reason: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.reason = reason


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

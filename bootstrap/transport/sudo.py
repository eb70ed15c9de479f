"""Becoming root by sudo: how a login shell is told to, and what sudo's answers mean.

sudo is first asked without a password and without a terminal, as most machines have it. What it wants beyond that is
given from its answer on: a password, through its standard input when it asks for it, and never again where it was
wrong; or a terminal (`requiretty`), which it only looks for, while input and output keep to their pipes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from bootstrap.errors import HostError, SudoPasswordWrong, SudoRefused
from bootstrap.transport.keyring import CannotAsk

ASKED = b"kubestrap asks sudo\n"
PROMPT = b"kubestrap-asks-for-the-password-of-sudo:"
IS_ROOT = b"kubestrap is root\n"

# The user's login shell reads these lines, and it may be fish or csh: so nothing but words and plain single quotes. The
# command itself is the first line of stdin, where it needs no quoting and no process list shows it.
_COMMAND = """IFS= read -r command && eval "$command\""""
AS_ROOT = f"exec sh -c '{_COMMAND}'"
_BY_SUDO = """exec sh -c 'echo {asked} >&2; LC_ALL=C; export LC_ALL; exec {sudo} -H -- sh -c "$0"' '{command}'"""
# `script` has a terminal, and runs a shell in it; what that shell starts goes on with our own streams.
_BY_SUDO_IN_A_TERMINAL = (
    """exec sh -c 'echo {asked} >&2; exec 3<&0 4>&1 5>&2; """
    """LC_ALL=C SHELL=/bin/sh command=$0; export LC_ALL SHELL command; """
    r"""exec script -qec "exec {sudo} -H -- sh -c \"\$command\" <&3 >&4 2>&5 3<&- 4>&- 5>&-" /dev/null """
    """</dev/null >/dev/null' '{command}'"""
)


class Sudo:
    """How one machine's sudo is to be asked. Threads may share it."""

    def __init__(self, host: str, user: str, password: Callable[[], str]) -> None:
        self._host = host
        self._user = user
        self._ask = password
        self._lock = threading.Lock()
        self._password: str | None = None
        self._in_a_terminal = False
        self.settled = False
        """Whether sudo gave root, and so is known to go on doing so."""

    @property
    def password(self) -> bytes | None:
        """What sudo asks for; None where it does not ask."""
        return None if self._password is None else self._password.encode(errors="surrogateescape")

    @property
    def line(self) -> str:
        """What the login shell is to run."""
        form = _BY_SUDO_IN_A_TERMINAL if self._in_a_terminal else _BY_SUDO
        asked = ASKED.decode().strip()
        if self._password is None:
            return form.format(asked=asked, sudo="sudo -n", command=_COMMAND)
        # -k: a password given before does not count, so that sudo always asks.
        command = f"echo {IS_ROOT.decode().strip()} >&2; {_COMMAND}"
        return form.format(asked=asked, sudo=f"sudo -k -S -p {PROMPT.decode()}", command=command)

    def give_in(self, said: bytes) -> bool:
        """Learn from sudo's refusal how to ask it another time, and say whether that is of use.

        Raises `SudoRefused` where it wants a password that nobody gives.
        """
        with self._lock:
            if b"must have a tty" in said and not self._in_a_terminal:
                self._in_a_terminal = True
                return True
            if not re.search(rb"(password|authentication) is required", said):
                return False
            if self._password is not None:
                return True  # another thread has it by now
            try:
                self._password = self._ask()
            except CannotAsk as error:
                raise SudoRefused(
                    self._host,
                    f"sudo wants a password of user {self._user}, and {error}. Name a file that holds it "
                    "(--sudo-password-file, or sudoPasswordFile in the inventory), allow root without one in sudoers "
                    f"(`{self._user} ALL=(ALL) NOPASSWD: ALL`), or log in as root",
                ) from None
            return True

    def refusal(self, said: str) -> HostError:
        """Give the error for a refusal that nothing can be done about."""
        if re.search(r"incorrect .*attempt", said):
            return self.wrong_password()
        if "script" in said and "not found" in said:
            what = "sudo wants a terminal (requiretty), and there is no program `script` to give it one. Install it"
            return SudoRefused(self._host, f"{what}, or put `Defaults:{self._user} !requiretty` into sudoers")
        if "not found" in said:
            what = "there is no sudo on the machine. Install it, or log in as root"
            return SudoRefused(self._host, what)
        return SudoRefused(
            self._host,
            f"sudo does not give root to user {self._user}; it says: {said}. "
            f"Allow it in sudoers (`{self._user} ALL=(ALL) NOPASSWD: ALL`), or log in as root",
        )

    def wrong_password(self) -> SudoPasswordWrong:
        """Give the error for a password that is wrong."""
        return SudoPasswordWrong(
            self._host,
            f"sudo does not take the password that was given for user {self._user}; it was tried once. "
            "Run again with the right one, or give this host its own sudoPasswordFile in the inventory",
        )

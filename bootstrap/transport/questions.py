"""Questions of OpenSSH's clients (the PIN of a token, the passphrase of a key), put to the user of the run."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from pathlib import Path

from bootstrap.transport import askpass
from bootstrap.transport.keyring import CannotAsk, Keyring
from bootstrap.transport.openssh_process import write_script

_LONGEST = 64 * 1024
_TRIES = 3


class Questions:
    """Listens in `folder`, which only this user may enter, to the programs that clients start to ask (`askpass`).

    A question is asked once for all logins that have it. The answer counts from the moment that the login which had
    it first has come about; until then the others wait: a token locks itself after a few wrong PINs, so that none is
    tried twice. A login is known by the process id of its client, which leads a session: clients that it starts itself
    (ProxyCommand) are of the same.
    """

    def __init__(self, folder: Path, keyring: Keyring) -> None:
        self._keyring = keyring
        self.were_asked = False
        """Whether there was a question yet, so that a client may take long."""
        self._changed = threading.Condition()
        self._trying: dict[str, tuple[int, str]] = {}  # by question: the login, and what it was told
        self._right: dict[str, str] = {}
        self._asked: Counter[str] = Counter()
        self._program = folder / "askpass"
        self._socket = folder / "ask"
        write_script(self._program, askpass.__name__)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._socket))
        self._listener.listen(128)
        threading.Thread(target=self._accept, name="ssh-questions", daemon=True).start()

    @property
    def can_ask(self) -> bool:
        """Whether somebody can be asked."""
        return self._keyring.can_ask

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs, so that it asks here."""
        return {
            "SSH_ASKPASS": str(self._program),
            "SSH_ASKPASS_REQUIRE": "force",
            askpass.VARIABLE: str(self._socket),
        }

    def settle(self, login: int, *, logged_in: bool) -> None:
        """Learn how the login of a client ended, and so whether the answers that it was given were right."""
        with self._changed:
            for question, (trying, answer) in tuple(self._trying.items()):
                if trying == login:
                    del self._trying[question]
                    if logged_in:
                        self._right[question] = answer
            self._changed.notify_all()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), name="ssh-question", daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            said = b""
            while len(said) < _LONGEST and (data := client.recv(4096)):
                said += data
            login, kind, question = said.decode(errors="surrogateescape").split("\n", 2)
            self.were_asked = True
            if kind == "none":  # it only tells something, as that a token is to be touched
                self._keyring.tell(question)
            elif not kind:
                with contextlib.suppress(CannotAsk):
                    answer = self._find(int(login), question)
                    client.sendall(askpass.ANSWERED + answer.encode(errors="surrogateescape"))

    def _find(self, login: int, question: str) -> str:
        with self._changed:
            while question in self._trying and self._trying[question][0] != login:
                self._changed.wait()
            if question in self._right:
                return self._right[question]
            if self._asked[question] == _TRIES:
                raise CannotAsk(f"what was given was wrong {_TRIES} times")
            self._asked[question] += 1
            self._trying[question] = login, ""
        answer = self._keyring.answer(question)
        with self._changed:
            if self._trying.get(question, (0, ""))[0] == login:  # it may have given up meanwhile
                self._trying[question] = login, answer
        return answer

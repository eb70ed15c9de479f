"""A paramiko channel that says nothing after its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko


class OrderlyChannel(paramiko.Channel):
    """A channel whose CLOSE comes after all that is being sent.

    paramiko looks whether a channel is open, and sends without holding its lock (it could not exchange keys otherwise).
    Where the other side closes in between, paramiko's thread answers with CLOSE first, and what follows goes to a
    channel that is no more: sshd ends the whole connection for that ("data packet referred to nonexistent channel"),
    or takes it for another channel's that has the number by now. Seen with twelve hosts behind one jump host.
    """

    _order: threading.Lock
    _sending: int
    _held: list[paramiko.Message]

    @classmethod
    def of(cls, channel: paramiko.Channel) -> OrderlyChannel:
        """Turn a channel, on which nothing was sent yet, into an orderly one: paramiko makes them itself."""
        # The attributes first: the connection's thread may close the channel at any time.
        channel.__dict__.update(_order=threading.Lock(), _sending=0, _held=[])
        channel.__class__ = cls
        assert isinstance(channel, cls)
        return channel

    def shutdown(self, how: int) -> None:
        """End one direction, or both, as a socket does."""
        with self._before_the_end():
            super().shutdown(how)

    def _send(self, data: bytes, message: paramiko.Message) -> int:
        with self._before_the_end():
            return int(super()._send(data, message))  # type: ignore[misc]  # the stubs leave it out

    def _close_internal(self) -> tuple[paramiko.Message | None, paramiko.Message | None]:
        end: tuple[paramiko.Message | None, paramiko.Message | None] = super()._close_internal()  # type: ignore[misc]
        # From here on the channel counts as closed: who has not begun to send will not.
        with self._order:
            if not self._sending:
                return end
            self._held += [message for message in end if message]
            return None, None

    @contextmanager
    def _before_the_end(self) -> Iterator[None]:
        with self._order:
            self._sending += 1
        try:
            yield
        finally:
            with self._order:
                self._sending -= 1
                held, self._held = ([], self._held) if self._sending else (self._held, [])
            for message in held:
                self.get_transport()._send_user_message(message)  # type: ignore[attr-defined]  # noqa: SLF001

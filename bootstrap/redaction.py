"""Keeping secrets out of what is told: known by their value, wherever a text may have brought them from."""

from __future__ import annotations

import base64
import binascii
import re
import threading

MASK = "[redacted]"
SHORTEST = 8
"""Characters that a value must have to be kept out; shorter ones would mask ordinary words."""

_KEY = r"(?s)-----BEGIN ([A-Z ]*PRIVATE KEY)-----(.+?)-----END \1-----"
_EMBEDDED = r"""\b(?:client-key-data|token|token-secret|password)["']?\s*:\s*["']?([A-Za-z0-9+/=._-]{8,})"""
_BASIC = r"\bBasic ([A-Za-z0-9+/]{8,}={0,2})"
_TOKEN = r"\b[a-z0-9]{6}\.([a-z0-9]{16})\b"  # noqa: S105 - a pattern, no token


class Secrets:
    """The secret values known so far. Threads may use it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: frozenset[str] = frozenset()
        self._longest_first: tuple[str, ...] = ()

    def add(self, *values: str) -> None:
        """Keep out each of `values` as a whole, and its base64 form."""
        new = {value.strip() for value in values if len(value.strip()) >= SHORTEST}
        new |= {base64.b64encode(value.encode()).decode().rstrip("=") for value in new}
        with self._lock:
            if not new <= self._values:
                self._values = self._values | new
                self._longest_first = tuple(sorted(self._values, key=len, reverse=True))

    def learn(self, *documents: bytes) -> None:
        """Keep out secrets in files and input: PEM private keys, keys of kubeconfigs, bootstrap tokens, HTTP logins.

        Each line of a key is one: what quotes a file may part and indent it.
        """
        for document in documents:
            text = document.decode(errors="replace")
            for block in re.finditer(_KEY, text):
                lines = block[2].split()
                whole = block[0]
                self.add(*lines, "".join(lines), whole, f"{whole}\n")
            for login in re.finditer(_BASIC, text):
                plain = _decoded(login[1]).decode(errors="replace")
                self.add(login[1], plain, plain.partition(":")[2])
            for token in re.finditer(_TOKEN, text):
                self.add(token[0], token[1])
            for embedded in re.finditer(_EMBEDDED, text):
                self.add(embedded[1])
                decoded = _decoded(embedded[1])
                if b"PRIVATE KEY-----" in decoded:
                    self.learn(decoded)

    def mask(self, text: str) -> str:
        """Give `text` with every known secret replaced."""
        for value in self._longest_first:
            if value in text:
                text = text.replace(value, MASK)
        return text


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""

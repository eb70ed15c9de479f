"""Files over HTTP(S): whole and of the right digest, or not at all; a connection that is cut is resumed (RFC 9110, 14).

Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import hashlib
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from bootstrap.bundle.credentials import Credentials
from bootstrap.bundle.reader import Progress
from bootstrap.errors import BootstrapError, ConfigError

LARGEST_BYTES = 4 * 1024**3
"""A file above this size is given up; the largest of a bundle has 200 MB."""

_CHUNK = 256 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 429, 500, 502, 503, 504)
_MOST_REDIRECTS = 10
_LARGEST_TOKEN = 1024 * 1024
_TROUBLE = (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException, socket.gaierror)

T = TypeVar("T")


class DownloadFailed(BootstrapError):
    """A file could not be had. `url` is its address, without what a query may hold."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(f"{url}: {what}")
        self.url = url


class ServerUnreachable(DownloadFailed):
    """No connection could be made, or none that lasted until the end, however often it was tried."""

    exit_code = 5


class ServerUntrusted(DownloadFailed):
    """The server's certificate is not one that this machine, or the CA that was named, vouches for."""

    exit_code = 5


class NotThere(DownloadFailed):
    """The server has no such file."""


class LoginRefused(DownloadFailed):
    """The server wants credentials, and has none that it accepts."""

    exit_code = 7


class TooSlow(DownloadFailed):
    """The server answers, but no file comes within the limits."""

    exit_code = 10


class WrongDigest(DownloadFailed):
    """What came is not what was to come. Nothing of it is kept."""

    exit_code = 3


class _Passing(Exception):
    """Something that may go away by trying again, after `seconds` where the server says when."""

    def __init__(self, error: DownloadFailed, seconds: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each wait may be.

    `silence`: seconds for a connection, and for the next byte; a download slower than `rate` bytes a second during as
    long counts as silent. `attempts` in a row may bring less than that, with `pause` seconds after the first, doubled
    each time. A server that asks (Retry-After) for a longer pause than `longest_pause` seconds is given up.
    """

    silence: float = 30
    rate: int = 1024
    attempts: int = 5
    pause: float = 1
    longest_pause: float = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """A small answer, read to its end."""

    data: bytes
    headers: Message


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the client, which knows where credentials may go."""

    def redirect_request(self, *_: object) -> None:
        return None


class Client:
    """Gets files from servers, with the `credentials` of each.

    Credentials go to the server they are for and to nobody else, also not by a redirect; never are they in a message.
    `ca` is a PEM file of CAs that are trusted besides those of the system. One thread at a time.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        ca: Path | None = None,
        limits: Limits | None = None,
        progress: Progress = lambda _: None,
    ) -> None:
        """Read `ca`. Raises `ConfigError` where it cannot be used."""
        self._credentials = credentials or Credentials()
        self._limits = limits or Limits()
        self._progress = progress
        self._authorizations: dict[tuple[str, str], str] = {}
        self._open = urllib.request.build_opener(_NoRedirects(), urllib.request.HTTPSHandler(context=_tls(ca))).open

    def answers(self, url: str) -> DownloadFailed | None:
        """Ask once whether a server answers at `url`, whatever it says; give what is wrong where none does."""
        try:
            self._once(url, {}, "").close()
        except _Passing as error:
            return error.error if isinstance(error.error, ServerUnreachable | TooSlow) else None
        except ServerUntrusted as error:
            return error
        except DownloadFailed:
            pass
        return None

    def read(self, url: str, *, most: int, accept: str = "*/*", scope: str = "") -> Answer:
        """Read what is at `url`, of `most` bytes at most. `scope` tells apart what needs an authorization of its own.

        Raises `DownloadFailed`.
        """

        def read() -> Answer:
            with self._once(url, {"Accept": accept}, scope) as response:
                data = b"".join(self._chunks(url, response, most))
                _require_whole(url, response, len(data))
                return Answer(data, response.headers)

        return self._again(read)

    def download(self, url: str, to: Path, *, sha256: str, size: int | None = None, scope: str = "") -> None:
        """Put the file at `url` to the path `to`, whole and with the digest `sha256` (hex), or not at all.

        What has come before a connection was cut, or before the process was killed, is beside it (`.partial`) and is
        not fetched again, nor is a file that is there. Raises `DownloadFailed`, and `OSError` where the disk is full.
        """
        if to.exists() and _digest(to) == sha256:
            return
        partial = to.with_name(f"{to.name}.partial")
        resumed = partial.exists()
        try:
            found = self._fill(url, partial, size, scope)
            if found != sha256 and resumed:  # what was there may have been of another file
                partial.unlink()
                found = self._fill(url, partial, size, scope)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                partial.unlink(missing_ok=True)
                raise OSError(error.errno, error.strerror, str(partial)) from error
            raise
        except WrongDigest:
            partial.unlink(missing_ok=True)
            raise
        if found != sha256:
            partial.unlink()
            raise WrongDigest(_shown(url), f"its SHA-256 is {found}, not {sha256}; it was altered on its way, or there")
        partial.replace(to)

    def _fill(self, url: str, partial: Path, size: int | None, scope: str) -> str:
        """Fetch what the file `partial` lacks, and give the digest of all of it."""
        digest = hashlib.sha256()
        with partial.open("a+b") as file:
            file.seek(0)
            while data := file.read(_CHUNK):
                digest.update(data)
            gained = _Gain(file.tell(), file.tell())
            most = LARGEST_BYTES if size is None else size

            def fetch() -> None:
                nonlocal digest
                if gained.at == size:
                    return
                headers = {"Range": f"bytes={gained.at}-"} if gained.at else {}
                try:
                    response = self._once(url, headers, scope)
                except _OutOfRange:
                    gained.at = file.truncate(0)
                    digest = hashlib.sha256()
                    response = self._once(url, {}, scope)
                with response:
                    if _start(response) != gained.at:  # it sends all of it, whatever it was asked for
                        gained.at = file.truncate(0)
                        digest = hashlib.sha256()
                    begin = gained.at
                    for data in self._chunks(url, response, most - begin):
                        file.write(data)
                        digest.update(data)
                        gained.at += len(data)
                        gained.most = max(gained.most, gained.at)
                    _require_whole(url, response, gained.at - begin)

            self._again(fetch, lambda: gained.most)
        return digest.hexdigest()

    def _chunks(self, url: str, response: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
        """Read the body of `response`, which may have `most` bytes."""
        length, since, window = 0, time.monotonic(), 0
        while True:
            try:
                data = response.read1(_CHUNK)
            except _TROUBLE as error:
                raise _Passing(_trouble(url, error, self._limits)) from error
            if not data:
                return
            length += len(data)
            if length > most:
                raise WrongDigest(_shown(url), f"more bytes come than the {most} that it may have")
            yield data
            window += len(data)
            passed = time.monotonic() - since
            if passed > self._limits.silence:
                if window < self._limits.rate * passed:
                    raise _Passing(TooSlow(_shown(url), f"only {window} bytes came within {passed:.0f} s"))
                since, window = time.monotonic(), 0

    def _again(self, action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Do `action` until it works, or until it failed too often in a row with too little progress (in bytes)."""
        failures, before = 0, progress()
        enough = self._limits.rate * self._limits.silence
        while True:
            try:
                return action()
            except _Passing as passing:
                failures = 1 if progress() - before >= enough else failures + 1
                before = progress()
                if failures >= self._limits.attempts:
                    raise passing.error from passing
                pause = self._limits.pause * 2 ** (failures - 1) if passing.seconds is None else passing.seconds
                if pause > self._limits.longest_pause:
                    raise TooSlow(
                        passing.error.url,
                        f"the server wants to be left alone for {pause:.0f} s; run the command again after that",
                    ) from passing
                self._progress(f"{passing}; trying again in {pause:.0f} s ({failures + 1} of {self._limits.attempts})")
                time.sleep(pause)

    def _once(self, url: str, headers: Mapping[str, str], scope: str) -> http.client.HTTPResponse:
        """Ask once, follow redirects, and give an authorization where one is wanted."""
        at, given = url, ""
        for _ in range(_MOST_REDIRECTS + 2):
            known = self._authorizations.get((_origin(at), scope), "")
            try:
                response = self._send(at, headers, known)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in _REDIRECTS and error.headers.get("Location"):
                        at = _next(url, at, str(error.headers["Location"]))
                    elif error.code == 401 and given != _origin(at):
                        given = _origin(at)
                        self._authorize(at, error.headers, scope)
                    else:
                        raise _refusal(at, error, known) from error
            else:
                return response
        raise DownloadFailed(_shown(url), f"it leads from one place to the next, more than {_MOST_REDIRECTS} times")

    def _send(
        self, url: str, headers: Mapping[str, str], authorization: str, body: bytes | None = None
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, body, {"User-Agent": "kubestrap", **headers})  # noqa: S310 (checked)
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        try:
            response: http.client.HTTPResponse = self._open(request, timeout=self._limits.silence)
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, Exception) else error
            raise _unreachable(url, reason, self._limits) from error
        except _TROUBLE as error:
            raise _unreachable(url, error, self._limits) from error
        except ValueError as error:  # urllib reads a redirect, too
            raise DownloadFailed(_shown(url), "it is, or leads to, something that is no URL") from error
        return response

    def _authorize(self, url: str, headers: Message, scope: str) -> None:
        """Find what to send to the server that answered 401 at `url` (RFC 7617, and the distribution's token spec)."""
        login = self._credentials.of(urlsplit(url).netloc)
        challenges = [_challenge(text) for text in headers.get_all("WWW-Authenticate", [])]
        for scheme, fields in challenges:
            if scheme == "basic" and login.basic:
                self._authorizations[_origin(url), scope] = login.basic
                return
            if scheme == "bearer" and "realm" in fields:
                token = self._token(url, fields, login.basic, login.identity_token)
                self._authorizations[_origin(url), scope] = f"Bearer {token}"
                return
        raise LoginRefused(_shown(url), f"it wants a login; {_where(urlsplit(url).netloc)}")

    def _token(self, url: str, fields: Mapping[str, str], basic: str, identity_token: str) -> str:
        """Get a token from the server that the registry trusts."""
        realm = fields["realm"]
        try:
            scheme = urlsplit(realm).scheme
        except ValueError as error:
            raise LoginRefused(_shown(url), "where it sends for a token is no URL") from error
        if scheme not in {"http", "https"} or (urlsplit(url).scheme == "https" and scheme != "https"):
            raise LoginRefused(_shown(url), f"it sends to {_shown(realm)} for a token, which is not safe to be asked")
        asked = {name: fields[name] for name in ("service", "scope") if name in fields}
        try:
            if identity_token:
                more = {"grant_type": "refresh_token", "client_id": "kubestrap", "refresh_token": identity_token}
                response = self._send(realm, {}, "", urlencode({**asked, **more}).encode())
            else:
                separator = "&" if urlsplit(realm).query else "?"
                response = self._send(f"{realm}{separator}{urlencode(asked)}", {}, basic)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(realm, error, basic or identity_token, for_host=urlsplit(url).netloc) from error
        with response:
            data = b"".join(self._chunks(realm, response, _LARGEST_TOKEN))
        try:
            told = json.loads(data)
            return str(told.get("token") or told["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise DownloadFailed(_shown(realm), "it answers without a token") from error


@dataclass(slots=True)
class _Gain:
    """How many bytes are there, and the most that there ever were."""

    at: int
    most: int


class _OutOfRange(DownloadFailed):
    """The server has not as many bytes as are here."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tls(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{ca}: no CA certificates can be read from it ({error.strerror or error})") from error
    return context


def _shown(url: str) -> str:
    """Give `url` as messages name it: a query may hold a signature, and what stands before @ a password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _next(url: str, at: str, location: str) -> str:
    """Give where a redirect leads. Raises `DownloadFailed` where it gives up TLS."""
    there = urljoin(at, location)
    scheme = urlsplit(there).scheme
    if scheme not in {"http", "https"} or (urlsplit(at).scheme == "https" and scheme != "https"):
        raise DownloadFailed(_shown(url), f"it leads to {_shown(there)}, which is not protected by TLS")
    return there


def _challenge(text: str) -> tuple[str, dict[str, str]]:
    """Read one WWW-Authenticate header: the scheme in small letters, and its fields."""
    scheme, _, rest = text.partition(" ")
    fields = {
        name.lower(): quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))', rest)
    }
    return scheme.lower(), fields


def _where(host: str) -> str:
    return f"put one for {host} into ~/.docker/config.json, or into a file that --auth-file names"


def _refusal(url: str, error: urllib.error.HTTPError, sent: str, *, for_host: str = "") -> Exception:
    """Turn the status of an answer into what is raised."""
    where, status = _shown(url), error.code
    if status == 404:
        return NotThere(where, "the server does not have it (404)")
    if status in {401, 403}:
        what = "the server does not accept the credentials" if sent else "the server wants a login"
        return LoginRefused(where, f"{what} ({status}); {_where(for_host or urlsplit(url).netloc)}")
    if status == 416:
        return _OutOfRange(where, "the server has fewer bytes than were got before (416)")
    failed = DownloadFailed(where, f"the server answers {status} {error.reason}")
    if status in _PASSING:
        return _Passing(failed, _retry_after(error.headers))
    return failed


def _retry_after(headers: Message) -> float | None:
    """Give the seconds that a Retry-After header asks for (RFC 9110, 10.2.3: a number, or a date)."""
    text = str(headers.get("Retry-After", ""))
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):  # the latter for a date without a zone
        return max(0.0, (email.utils.parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None


def _unreachable(url: str, error: Exception, limits: Limits) -> Exception:
    """Turn what kept a connection from being made into what is raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"its certificate cannot be trusted ({error.verify_message}); --ca-file names a CA of your own"
        return ServerUntrusted(_shown(url), what)
    return _Passing(_trouble(url, error, limits))


def _trouble(url: str, error: Exception, limits: Limits) -> DownloadFailed:
    if isinstance(error, TimeoutError):
        return TooSlow(_shown(url), f"nothing came for {limits.silence:g} s")
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return ServerUnreachable(_shown(url), f"the connection failed ({said})")


def _start(response: http.client.HTTPResponse) -> int:
    """Give the place in the file at which the body of `response` begins."""
    if response.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _require_whole(url: str, response: http.client.HTTPResponse, length: int) -> None:
    """Raise where the body of `response` ended early: `read1` does not tell."""
    announced: Any = response.headers.get("Content-Length", "")
    if announced.isdecimal() and length < int(announced):
        cut = ServerUnreachable(_shown(url), f"the connection was cut after {length} of {announced} bytes")
        raise _Passing(cut)

"""A real sshd that sees users and sudoers of its own, in a mount namespace: the machine keeps its files."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sshd import Server, needs, running

PASSWORD = "correct horse  battery'$staple"
USERS = {
    # name: login shell, line of sudoers
    "free": ("/bin/sh", "free ALL=(ALL) NOPASSWD: ALL"),
    "asked": ("/bin/sh", "asked ALL=(ALL) ALL"),
    "askedcsh": ("/usr/bin/tcsh", "askedcsh ALL=(ALL) ALL"),
    "once": ("/bin/sh", "once ALL=(ALL) ALL\nDefaults:once passwd_tries=1"),
    "tty": ("/bin/sh", "tty ALL=(ALL) NOPASSWD: ALL\nDefaults:tty requiretty"),
    "both": ("/bin/sh", "both ALL=(ALL) ALL\nDefaults:both requiretty"),
    "bothcsh": ("/usr/bin/tcsh", "bothcsh ALL=(ALL) ALL\nDefaults:bothcsh requiretty"),
    "without": ("{folder}/without-sudo", "without ALL=(ALL) ALL"),
    "nobodys": ("/bin/sh", ""),
}


@contextmanager
def sudoers() -> Iterator[Server]:
    """Run a server where each of `USERS` has `PASSWORD`, and logs in with the server's key."""
    needs("sudo", "unshare", "openssl", "script", "tcsh")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        shell = folder / "without-sudo"
        shell.write_text(f'#!/bin/sh\nPATH={folder}/bin\nexec sh "$@"\n')
        shell.chmod(0o755)
        (folder / "bin").mkdir()
        (folder / "bin/sh").symlink_to("/bin/sh")
        files = {
            "passwd": "".join(
                f"{user}:x:{4200 + n}:4200::/:{USERS[user][0].format(folder=folder)}\n" for n, user in enumerate(USERS)
            ),
            "shadow": "".join(f"{user}:{hashed}:19000:0:99999:7:::\n" for user in USERS),
        }
        for file, lines in files.items():
            (folder / file).write_text(Path("/etc", file).read_text() + lines)
        (folder / "sudoers").write_text(
            "Defaults env_reset\nDefaults !lecture\nroot ALL=(ALL) ALL\n"
            + "\n".join(line for _, line in USERS.values())
            + "\n"
        )
        (folder / "sudoers").chmod(0o440)
        (folder / "shadow").chmod(0o600)
        (folder / "pam.d").mkdir()
        login = Path("/etc/pam.d/common-auth").read_text().replace("pam_unix.so", "pam_unix.so nodelay")
        (folder / "pam.d/common-auth").write_text(login)
        bound = (*files, "sudoers", "pam.d/common-auth")
        binds = "; ".join(f"mount --bind {folder}/{file} /etc/{file}" for file in bound)
        within = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{binds}; exec "$0" "$@"')
        with running(folder / "sshd", within=within) as server:
            (server.folder / "authorized_keys").chmod(0o644)
            yield server

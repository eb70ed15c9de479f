"""What OpenSSH's client starts to ask its user something (SSH_ASKPASS): it hands the question on to the run.

Run as a program, with the question as its argument; the variable KUBESTRAP_ASK names the socket where the run listens.
"""

from __future__ import annotations

import os
import socket
import sys

VARIABLE = "KUBESTRAP_ASK"
ANSWERED = b"+"


def main(question: str) -> int:
    """Print the answer, which is the client's alone to read. Gives the status to end with: 1 for no answer."""
    kind = os.environ.get("SSH_ASKPASS_PROMPT", "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as run:
        run.connect(os.environ[VARIABLE])
        # Of the login's own session is also a client that a ProxyCommand starts.
        run.sendall(f"{os.getsid(0)}\n{kind}\n{question}".encode(errors="surrogateescape"))
        run.shutdown(socket.SHUT_WR)
        answer = b""
        while data := run.recv(4096):
            answer += data
    if not answer.startswith(ANSWERED):
        return 1
    sys.stdout.buffer.write(answer.removeprefix(ANSWERED) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))

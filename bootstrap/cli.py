"""The command line: puts the commands together, and turns every way a run can end into an exit code.

A command lives in a module `bootstrap/NAME_commands.py` that has a typer `app`: the commands of a group of that name
(`GROUPS`), or else commands of their own. Such modules import nothing slow before a command runs.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, NoReturn, TextIO

import typer
from typer._click.exceptions import ClickException  # typer 0.29 exports its parts, not their base

import bootstrap
from bootstrap import completing
from bootstrap.output import Output

GROUPS = ("init", "join", "token", "certs", "config", "bundle", "lab", "hosts", "etcd")
ORDER = (
    "plan",
    "diff",
    "preflight",
    "apply",
    "init",
    "join",
    "adopt",
    "status",
    "verify",
    "remove",
    "replace",
    "prune",
    "reset",
    "unlock",
    "etcd",
    "kubeconfig",
    "token",
    "certs",
    "config",
    "bundle",
    "lab",
    "explain",
    "completion",
)
"""How the help lists modules; others follow in the order of their names."""

INTERRUPTED = 130
TERMINATED = 143
STDOUT_GONE = 141
_SIGNALLED = (INTERRUPTED, TERMINATED)
_SUFFIX = "_commands"
_LOCAL_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


def main() -> NoReturn:
    """Run the command line of this process, and end the process with its exit code.

    The first SIGINT or SIGTERM ends the command in its own way, a second one the process at once.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    if asked := os.environ.get(completing.VARIABLE):
        sys.exit(completing.complete(command(completing.first_word(os.environ)), asked))
    code = run(sys.argv[1:])
    _abandon(sys.stdout, sys.stderr)
    if code in _SIGNALLED:
        _leave(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` ask for and give the exit code (docs/exit-codes.md).

    Nothing is raised: a foreseeable error is told on stderr in its own words, any other with its traceback.
    """
    output = Output()
    ended_by: BaseException | None = None
    try:
        code = _invoke(arguments, output)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the one place where every error ends
        ended_by = error
        if isinstance(error, ClickException) and _asks_for_json(arguments):
            output.format = "json"  # the command line was not understood, and its options were not used
        code = _told(error, output)
    try:
        output.end(code, ended_by)
    except OSError as error:
        return _told(error, output) if code == 0 else code
    return code


def command(first: str = "") -> typer.Typer:
    """Put together all commands that there are, or, where `first` names a module of commands, its own alone."""
    app = typer.Typer(
        name="kubestrap",
        help="Turn bare machines into a Kubernetes cluster over SSH.",
        epilog="Exit codes: docs/exit-codes.md. Commands tell what they do on stderr; stdout is for data.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    names = sorted(_modules(), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    for name in [first] if first in names else names:
        part: typer.Typer = importlib.import_module(f"bootstrap.{name}{_SUFFIX}").app
        if name in GROUPS:
            app.add_typer(part, name=name)
        else:
            app.add_typer(part)
    return app


def _modules() -> list[str]:
    ending = f"{_SUFFIX}.py"
    names = (name for folder in bootstrap.__path__ for name in os.listdir(folder))  # noqa: PTH208 - quicker
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kubestrap {bootstrap.__version__}")
        raise typer.Exit


def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _invoke(arguments: Sequence[str], output: Output) -> int:
    top = typer.main.get_command(command())
    try:
        # `main` of typer would swallow every EPIPE, also that of a connection to a machine.
        with top.make_context("kubestrap", list(arguments), obj=output) as context:
            top.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def _asks_for_json(arguments: Sequence[str]) -> bool:
    return "--output=json" in arguments or ("--output", "json") in itertools.pairwise(arguments)


def _told(error: BaseException, output: Output) -> int:
    """Tell the user how the run ended, and give the exit code for it."""
    from bootstrap.errors import BootstrapError, HostsFailed

    def say(text: str) -> None:
        _tell(output.secrets.mask(text))

    match error:
        case SystemExit(code=code):
            return code if isinstance(code, int) else int(code is not None)
        case KeyboardInterrupt():
            say(" ".join(["Interrupted.", *_notes(error)]))
            return INTERRUPTED
        case Terminated():
            say(" ".join(["Terminated.", *_notes(error)]))
            return TERMINATED
        case typer.Abort():
            say("Aborted.")
            return INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else 1
        case ClickException():
            error.show()
            return error.exit_code
        case HostsFailed():
            say(f"{error.prefix}{error}")
            return error.code
        case BootstrapError():
            say(f"{error.prefix}{error}")
            return error.exit_code
        case BrokenPipeError() if sys.stdout is not None and _unread(sys.stdout):
            return STDOUT_GONE
        case OSError() if error.filename is not None or error.errno in _LOCAL_TROUBLE:
            where = f"{error.filename}: " if error.filename is not None else ""
            say(f"Error: {where}{error.strerror or error}")
            return 1
        case _:
            return _bug(error, say)


def _bug(error: BaseException, say: Callable[[str], None]) -> int:
    import traceback  # slow, and rarely needed

    say("".join(traceback.format_exception(error)).rstrip())
    say(f"\nThis is a bug in kubestrap {bootstrap.__version__}: please report the lines above and what you ran.")
    return 1


def _tell(text: str) -> None:
    """Write to stderr, whoever listens there."""
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


def _unread(stream: TextIO) -> bool:
    """Whether `stream` is a pipe or a socket whose reader is gone."""
    try:
        poll = select.poll()
        poll.register(stream, 0)
        return bool(poll.poll(0))
    except (OSError, ValueError, TypeError):  # closed, or not a file of the system
        return False


def _abandon(*streams: TextIO | None) -> None:
    """Keep the interpreter from complaining, at its end, about what nobody reads."""
    for stream in streams:
        if stream is not None and _unread(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _notes(error: BaseException) -> Sequence[str]:
    """Give what was added to an error on its way."""
    return getattr(error, "__notes__", ())


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    _next_signal_ends_at_once()
    raise KeyboardInterrupt


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    _next_signal_ends_at_once()
    raise Terminated


def _next_signal_ends_at_once() -> None:
    signal.signal(signal.SIGINT, lambda *_: _leave(INTERRUPTED))
    signal.signal(signal.SIGTERM, lambda *_: _leave(TERMINATED))


def _leave(code: int) -> NoReturn:
    """End the process without waiting for its threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()
    os._exit(code)

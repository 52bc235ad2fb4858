"""How commands end: codes and messages. What they are about is tested with each."""

from __future__ import annotations

import os
import signal

import pytest
import typer

from slmgate.cli.ends import CommandFailed, exits, terminated


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CommandFailed(3, "not there"), 3, "slmgate: not there\n"),
        (
            PermissionError(13, "denied", "/s/admin.key"),
            3,
            "/s/admin.key may not be used by this user; run it as the gate's user",
        ),
        (PermissionError(), 3, "give --admin and SLMGATE_ADMIN_KEY"),
    ],
)
def test_the_exit_code(error: Exception, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, exits():
        raise error
    assert left.value.exit_code == code
    assert message in capsys.readouterr().err


def test_a_message_brings_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), exits():
        raise CommandFailed(1, "There is no key '\x1b[2J\u202e'.\nIts second line.")
    assert capsys.readouterr().err == "slmgate: There is no key '\ufffd[2J\ufffd'.\nIts second line.\n"


def test_a_signal_lets_what_is_inside_clean_up() -> None:
    cleaned = []

    def stopped() -> None:
        with terminated():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                cleaned.append(signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL)

    with pytest.raises(SystemExit) as left:
        stopped()
    assert (left.value.code, cleaned, signal.getsignal(signal.SIGTERM)) == (143, [True], signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminated():
            os.kill(os.getpid(), signal.SIGHUP)  # as under `nohup`
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

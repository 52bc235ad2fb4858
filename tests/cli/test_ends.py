"""How commands end: codes and messages. What they are about is tested with each."""

from __future__ import annotations

import pytest
import typer

from slmgate.cli.ends import CommandFailed, exits


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

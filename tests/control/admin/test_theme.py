"""What a browser's cookie says of colours, and what is made of odd ones."""

from __future__ import annotations

import pytest

from slmgate.control.admin.theme import COOKIE, theme_of


@pytest.mark.parametrize(
    ("cookies", "theme"),
    [
        ({}, "system"),
        ({"other": "dark"}, "system"),
        ({COOKIE: "dark"}, "dark"),
        ({COOKIE: "light"}, "light"),
        ({COOKIE: "system"}, "system"),
        ({COOKIE: ""}, "system"),
        ({COOKIE: 'dark" onload="x'}, "system"),
    ],
)
def test_the_theme(cookies: dict[str, str], theme: str) -> None:
    assert theme_of(cookies) == theme

"""Styles, script and icon: under names that change with them, whole by themselves, with nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re

from slmgate.control.admin.dashboard.assets import FOLDER, addresses, asset


def text(name: str) -> str:
    found = asset(addresses()[name].removeprefix(FOLDER))
    assert found is not None
    return found.body.decode()


def test_names_change_with_the_content() -> None:
    assert set(addresses()) == {"app.css", "app.js", "icon.svg"}
    for name, address in addresses().items():
        found = asset(address.removeprefix(FOLDER))
        assert found is not None
        assert hashlib.sha256(found.body).hexdigest()[:12] in address
        assert address.endswith(name.rpartition(".")[2])


def test_nothing_else_is_served() -> None:
    for name in ("app.css", "app-000000000000.css", "../routes.py", "", "."):
        assert asset(name) is None


def test_nothing_comes_from_elsewhere() -> None:
    for name in addresses():
        found = text(name).replace("http://www.w3.org/2000/svg", "")
        assert "http" not in found.replace("https?", "") and "@import" not in found and "url(" not in found
        assert "eval" not in found and "innerHTML" not in found


def test_dark_is_the_same_whoever_asked_for_it() -> None:
    """The system's wish and the switch give the same colours, and both give every one that light has."""
    style = text("app.css")
    light = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[0]
    by_system, by_switch = (
        re.findall(pattern, style, re.DOTALL)[0]
        for pattern in (r':not\(\[data-theme="light"\]\) \{(.*?)\}', r':root\[data-theme="dark"\] \{(.*?)\}')
    )

    def colours(block: str) -> dict[str, str]:
        return dict(re.findall(r"(--[\w-]+): ([^;]+);", block))

    assert colours(by_system) == colours(by_switch)
    assert set(colours(by_system)) == set(colours(light))

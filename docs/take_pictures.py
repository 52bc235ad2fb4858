"""Takes the pictures of the dashboard for README.md and docs/dashboard.md: real pages, a real browser, made-up traffic.

`make docs` takes those that are missing, `make docs PICTURES=new` all of them; where there is no Chromium it says so and goes on.
With `--check` it only says which are missing. What they show is `tests/tools/page_traffic.py`, at a time that stands still, so
that they change with the pages alone.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"


class Picture(NamedTuple):
    """A page, by its address; how it is looked at, and how much of it."""

    name: str
    path: str
    theme: Literal["light", "dark"] = "light"
    width: int = 1120
    height: int = 800


PICTURES = (
    Picture("overview", "/?range=7d&compare=1", height=960),
    Picture("overview-dark", "/?range=7d&compare=1", "dark", height=960),
    Picture("clients", "/clients?range=7d", height=620),
    Picture("model", "/models/smollm2?range=7d", height=960),
    Picture("phone", "/?range=7d", "dark", 360, 760),
)


def missing() -> list[str]:
    """Those that are not there."""
    return [picture.name for picture in PICTURES if not (FOLDER / f"{picture.name}.png").is_file()]


def take(names: list[str]) -> None:
    """Take the pictures of these names."""
    from unittest.mock import patch

    from playwright.sync_api import ViewportSize

    from slmgate.control.admin.dashboard import shell
    from tests.tools import page_traffic, signin
    from tests.tools.page_site import serving

    FOLDER.mkdir(exist_ok=True)
    still = patch.object(shell, "utc_now", lambda: page_traffic.NOW)
    with still, tempfile.TemporaryDirectory() as home, serving(Path(home)) as site, signin.chromium() as browser:
        page_traffic.fill(site.gate.store)
        site.gate.now, site.gate.config = page_traffic.status(), page_traffic.config()
        for picture in PICTURES:
            if picture.name in names:
                size = ViewportSize(width=picture.width, height=picture.height)
                with browser.new_context(viewport=size, color_scheme=picture.theme) as context:
                    site.sign_in(context)
                    page = context.new_page()
                    page.goto(site.origin + picture.path)
                    page.screenshot(path=FOLDER / f"{picture.name}.png")


def main() -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    if "--check" in sys.argv[1:]:
        for name in missing():
            print(f"docs/pictures/{name}.png is missing: run `make docs`")
        return 1 if missing() else 0
    names = [picture.name for picture in PICTURES] if "--new" in sys.argv[1:] else missing()
    if names and not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        print(f"No pictures are taken, as Chromium is missing (the Debian package chromium): {', '.join(names)}")
    elif names:
        take(names)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The dashboard as people see it: Chromium walks every page of the table, in both themes, on both widths, and by keyboard.

Each page is looked at by axe-core; and it must not complain, ask elsewhere, be wider than a phone, or lose a control that the
keyboard cannot reach. Figures are those of known traffic through a real gate.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.live import MOST, Listing, LiveRequests
from slmgate.link.messages import LiveFilter, LiveRequest
from slmgate.stores.records import Batch, KeyFilter
from tests.system.conftest import Launch
from tests.tools import page_traffic, signin
from tests.tools.gate import OTHER, SECRET, Gate, model
from tests.tools.journal_writer import make_receipt
from tests.tools.page_site import Site, serving
from tests.tools.upstream import MockUpstream

WEEK = "from=2026-11-21T12:00&to=2026-11-28T12:00&compare=1"
HOSTILE = '"><img src=x onerror=alert(1)>\u202e/..' + "x" * 90
KEY = "the key"
"""Stands for the id of a key that the site has."""
UNDER_WAY = LiveRequest(
    id="0123456789ab00000001", request_id=HOSTILE[:60], since=1_795_867_200.0, state="queued", client=HOSTILE, model=HOSTILE,
    instance="http://10.0.0.5:8000", endpoint="chat", stream=True, position=12, tokens=34, address="2001:db8::7",
)  # fmt: skip
NAMES = {
    "/clients/{name:str}": ("support-bot", "nobody-at-all"),
    "/models/{name:str}": ("smollm2",),
    "/requests/{id:str}": ("evil",),
    "/live/{id:str}/cancel": (UNDER_WAY.id,),
    "/keys/{id:str}": (KEY,),
    "/keys/{id:str}/edit": (KEY,),
    "/keys/{id:str}/revoke": (KEY,),
}
"""What stands for the names of a path, so that the page shows something."""
Theme = Literal["light", "dark"]
REACH = """() => {
    const seen = element => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')]
        .filter(element => seen(element) && !element.disabled).map((element, at) => { element.dataset.at = at; return at; });
}"""
FOCUSED = """() => {
    const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
    return [element.dataset.at === undefined ? null : Number(element.dataset.at),
            style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.height > 0,
            element.outerHTML.slice(0, 120)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with signin.chromium() as made:
        yield made


@pytest.fixture(scope="module")
def axe() -> str:
    return (signin.packages(Path(__file__).parent / "axe") / "node_modules" / "axe-core" / "axe.min.js").read_text()


class OneUnderWay(LiveRequests):
    """No worker is asked: there is one request under way, which fits every filter but one by model."""

    async def list(self, which: LiveFilter, most: int = MOST) -> Listing:
        there = [] if which.model else [UNDER_WAY]
        return Listing(there, 1, len(there), [(HOSTILE, 1, 1)], 0)

    async def find(self, id: str) -> LiveRequest | Literal["over"] | None:
        return UNDER_WAY if id == UNDER_WAY.id else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two weeks of traffic, and one client with a name that somebody meant ill."""
    with serving(tmp_path_factory.mktemp("dashboard")) as made:
        page_traffic.fill(made.gate.store, an_hour=6)
        made.gate.store.write(
            Batch(receipts=[make_receipt("evil", time=datetime(2026, 11, 28, 9, tzinfo=UTC), principal=HOSTILE, model=HOSTILE)])
        )
        made.gate.now, made.gate.config = page_traffic.status(), page_traffic.config()
        made.gate.keyring.create("walked")
        made.gate.live = OneUnderWay()
        yield made


def signed_in(browser: Browser, site: Site, theme: Theme, width: int, **more: Any) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, **more)
    site.sign_in(context)
    return context


class Looked:
    """A page that notes what its browser complains of, and where it asks."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.page = context.new_page()
        self.trouble: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.trouble.append(f"error {error}"))
        self.page.on("request", lambda asked: self._asked(asked.url, origin))

    def _asked(self, url: str, origin: str) -> None:
        if not url.startswith(origin):
            self.trouble.append(f"asks {url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(f"{message.type} {message.text}")


def paths(site: Site) -> Iterator[str]:
    """Every page of the table that is got, with traffic and without."""
    (key,) = (record.id for record in site.gate.keyring.page(KeyFilter(), 9, None))
    for row in PAGES:
        if row.method == "GET" and "{" not in row.path:
            yield from (f"{row.path}?{WEEK}", f"{row.path}?range=1h")
        elif row.method == "GET":
            for name in NAMES.get(row.path, ()):
                yield f"{re.sub(r'{.*}', key if name == KEY else name, row.path)}?{WEEK}"
    yield f"/clients?{WEEK}&q=nobody-of-this-name"
    yield f"/clients?{WEEK}&sort=name"
    yield "/live?model=nobody-of-this-name"
    yield "/account"


def serious(page: Page, axe: str) -> list[str]:
    """What axe-core finds that is serious or critical, with where."""
    page.evaluate(axe)
    found = cast(dict[str, Any], page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })"))
    return [
        f"{each['impact']} {each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page(site: Site, browser: Browser, axe: str, theme: Theme, width: int) -> None:
    context = signed_in(browser, site, theme, width)
    look = Looked(context, site.origin)
    found: list[str] = []
    for path in paths(site):
        answer = look.page.goto(site.origin + path)
        assert answer is not None and answer.status == 200, path
        found += [f"{path}: {each}" for each in serious(look.page, axe)]
        across = look.page.evaluate("document.documentElement.scrollWidth")
        found += [f"{path}: is {across} wide"] if across > width else []
        found += [f"{path}: {each}" for each in look.trouble]
        look.trouble.clear()
    context.close()
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("width", [1280, 360])
def test_every_control_by_keyboard(site: Site, browser: Browser, width: int) -> None:
    """Tab reaches each control that is shown, in the order of the page, and what has the focus is seen to have it."""
    context = signed_in(browser, site, "light", width)
    page = context.new_page()
    for path in (f"/?{WEEK}", f"/clients?{WEEK}", f"/models/smollm2?{WEEK}"):
        page.goto(site.origin + path)
        wanted = page.evaluate(REACH)
        reached: list[int] = []
        for _ in range(len(wanted) + 5):
            page.keyboard.press("Tab")
            at, shown, what = page.evaluate(FOCUSED)
            if at is None or at in reached:
                break
            assert shown, f"{path}: the focus is not seen on {what}"
            reached.append(at)
        assert reached == wanted, path
    context.close()


def test_the_menu_of_a_phone(site: Site, browser: Browser) -> None:
    context = signed_in(browser, site, "light", 360)
    page = context.new_page()
    page.goto(f"{site.origin}/?{WEEK}")
    entry = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Clients")
    expect(entry).to_have_count(0)
    page.get_by_role("button", name="Menu").press("Enter")
    expect(entry).to_be_visible()
    page.keyboard.press("Escape")
    expect(entry).to_have_count(0)
    page.get_by_role("button", name="Menu").click()
    entry.click()
    expect(page).to_have_url(re.compile(r"/clients\?.*compare=1"))
    context.close()


def test_the_way_past_the_navigation(site: Site, browser: Browser) -> None:
    context = signed_in(browser, site, "light", 1280)
    page = context.new_page()
    page.goto(f"{site.origin}/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    context.close()


def test_the_switch_of_colours(site: Site, browser: Browser) -> None:
    context = signed_in(browser, site, "light", 1280)
    page = context.new_page()
    page.goto(f"{site.origin}/clients?{WEEK}")

    def dark() -> bool:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) < 200

    assert not dark()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert dark() and "/clients" in page.url
    for path in ("/models", "/account", "/login"):  # whoever signs in again has chosen, too
        page.goto(site.origin + path)
        assert dark(), path
    page.goto(f"{site.origin}/models")
    page.get_by_role("button", name="System").click()
    expect(page.locator("html[data-theme]")).to_have_count(0)
    assert not dark()
    context.close()


def test_names_from_outside_are_text(site: Site, browser: Browser) -> None:
    context = signed_in(browser, site, "light", 1280)
    look = Looked(context, site.origin)
    look.page.goto(f"{site.origin}/clients?{WEEK}&q=onerror")
    look.page.locator("tbody th a").click()
    expect(look.page.locator("h1")).to_have_text(HOSTILE)
    assert look.page.evaluate("document.querySelectorAll('img').length") == 0
    look.page.get_by_role("region", name="Models").locator("tbody a").click()
    expect(look.page.locator("h1")).to_contain_text("onerror")
    assert look.trouble == []
    context.close()


def test_a_page_stays_fresh_and_keeps_the_focus(site: Site, browser: Browser) -> None:
    context = signed_in(browser, site, "light", 1280)
    page = context.new_page()
    page.clock.install()
    page.goto(f"{site.origin}/models")
    page.locator("thead").get_by_role("link", name="Requests").focus()
    row = page.locator("tbody tr", has_text="smollm2").locator("td").nth(1)
    before = row.inner_text()
    busier = [replace(each, in_flight=each.in_flight + 10) for each in site.gate.now.instances]
    site.gate.now = replace(site.gate.now, instances=busier)
    page.clock.run_for(11_000)
    expect(row).not_to_have_text(before)
    expect(page.locator("thead").get_by_role("link", name="Requests")).to_be_focused()
    page.get_by_role("button", name="Live: on").click()
    expect(page.get_by_role("button", name="Live: off")).to_have_attribute("aria-pressed", "false")
    site.gate.now = page_traffic.status()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(30_000)
    assert asked == []
    context.close()


def test_without_script(site: Site, browser: Browser) -> None:
    """Every link, form and figure is there."""
    context = signed_in(browser, site, "light", 1280, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.origin}/?{WEEK}")
    page.get_by_role("link", name="support-bot").click()
    expect(page.locator("h1")).to_have_text("support-bot")
    figures = page.locator("#requests details.figures")
    figures.locator("summary").click()
    expect(figures.locator("tbody tr").first).to_be_visible()
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="CSV").first.click()
    assert Path(downloaded.value.path()).read_text().startswith("name,requests")
    context.close()


def test_errors_are_pages(site: Site, browser: Browser) -> None:
    context = signed_in(browser, site, "light", 360)
    page = context.new_page()
    answer = page.goto(f"{site.origin}/no/such/page")
    assert answer is not None and answer.status == 404
    expect(page.locator("h1")).to_have_text("Not found")
    answer = page.goto(f"{site.origin}/models/none")
    assert answer is not None and answer.status == 404
    expect(page.get_by_role("alert")).to_contain_text("No model of this name")
    context.close()


# --- known traffic in, the exact figures out ------------------------------------------------------------------------------


TOLD = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


def test_the_figures_are_those_of_the_requests(launch: Launch, upstream: MockUpstream, browser: Browser) -> None:
    """Ten requests answered, two refused, by two clients: the pages say so, to the last token, and so do their CSVs."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    upstream.default(usage=TOLD)
    origin, words = f"http://127.0.0.1:{gate.admin}", "olga has four plain words"
    secret = (gate.state / "admin.key").read_text().strip()
    with httpx.Client(base_url=origin, headers={"authorization": f"Bearer {secret}"}, trust_env=False) as admin:
        assert admin.post("/api/v1/admin/users", json={"name": "olga", "role": "owner", "password": words}).status_code == 201
        sent = [ask(gate, SECRET if number < 7 else OTHER, "tiny") for number in range(10)]
        sent += [ask(gate, SECRET, "none") for _ in range(2)]
        assert [answer.status_code for answer in sent] == [200] * 10 + [404] * 2
        gate.receipts(answer.headers["x-request-id"] for answer in sent)
        page = browser.new_page()
        page.goto(f"{origin}/login")
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password").fill(words)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{origin}/")
        page.goto(f"{origin}/?range=1h")
        figures = {name: page.locator(f"#tile-{name}").inner_text() for name in ("requests", "tokens", "errors", "refused")}
        assert figures["requests"].splitlines()[1].startswith("12")
        assert "420" in figures["tokens"] and "300 in, 120 out" in figures["tokens"]
        assert "0 of 10 admitted" in figures["errors"] and "2 of 12" in figures["refused"]
        assert page.locator("#top-clients .figure").all_inner_texts() == ["9 requests", "3 requests"]
        assert page.locator("#refusals .figure").all_inner_texts() == ["2"]
        page.goto(f"{origin}/models/tiny?range=1h")
        assert "420" in page.locator("#tile-tokens").inner_text()
        with page.expect_download() as downloaded:
            page.locator("a.csv").click()
        assert [row["requests"] for row in rows(downloaded.value.path())] == ["10"]
        listed = {row["name"]: row for row in rows_of(admin.get("/clients?range=1h&csv=table").text)}
        assert {name: (row["requests"], row["tokens"]) for name, row in listed.items()} == {
            "main": ("9", "294"),
            "other": ("3", "126"),
        }
        told = admin.get("/api/v1/usage", params={"by": "client", "since": "1h"}).json()["rows"]
        assert {row["group"]["client"]: str(row["total_tokens"]) for row in told} == {
            name: row["tokens"] for name, row in listed.items()
        }
        page.close()


def ask(gate: Gate, secret: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.post(f"http://127.0.0.1:{gate.port}/v1/chat/completions", json=body, headers=headers, trust_env=False)


def rows(path: Path) -> list[dict[str, str]]:
    return rows_of(Path(path).read_text())


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))

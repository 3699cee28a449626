"""A browser for the tests that look at pages."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from server.pages import STATIC
from support.serving import RunningServer

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
HEIGHTS = {390: 844, 1280: 860}

Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, as Debian packages it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        message = "no Chromium here; `apt-get install chromium` brings one"
        if os.environ.get("CI"):
            pytest.fail(f"{message}, and CI must not go without these tests")
        pytest.skip(message)
    assert (STATIC / "index.html").is_file(), "the page is not built: run `npm ci && npm run build` in web/"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens pages of a server, each in a browser of its own; nothing may be wrong in them when the test ends.

    `tolerated` is a pattern of console errors that the test provokes.
    """
    contexts = []
    troubles: list[str] = []

    def open_page(
        server: RunningServer,
        path: str = "/",
        *,
        theme: str = "light",
        width: int = 1280,
        motion: str = "no-preference",
        tolerated: str = "(?!)",
    ) -> Page:
        size = {"width": width, "height": HEIGHTS[width]}
        context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion=motion,  # type: ignore[arg-type]
            device_scale_factor=2 if width < 600 else 1,
            base_url=f"http://127.0.0.1:{server.port}",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and not re.search(tolerated, message.text):
                troubles.append(f"{message.type}: {message.text} ({message.location['url']})")

        def on_request(request: Request) -> None:
            address = urlsplit(request.url)
            if address.scheme not in {"data", "blob"} and address.netloc != f"127.0.0.1:{server.port}":
                troubles.append(f"asked {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: troubles.append(f"uncaught: {error}"))
        page.on("request", on_request)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles, "\n".join(troubles)


def look_at(pictures: Locator) -> None:
    """Bring every picture into view, which fetches it, and see that there is something in it."""
    expect(pictures.first).to_be_attached()
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        picture.evaluate("image => image.decode()")
        assert picture.evaluate("image => image.naturalWidth") > 0


def listen_to(sound: Locator) -> float:
    """Play a sound by keyboard until its time moves; how long it is, in seconds."""
    sound.scroll_into_view_if_needed()
    handle = sound.element_handle()
    sound.page.wait_for_function("sound => sound.readyState >= 1", arg=handle)
    sound.focus()
    sound.page.keyboard.press("Space")
    sound.page.wait_for_function("sound => sound.currentTime > 0.1", arg=handle)
    sound.evaluate("sound => sound.pause()")
    assert sound.evaluate("sound => sound.error") is None
    return float(sound.evaluate("sound => sound.duration"))

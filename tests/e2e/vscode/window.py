"""A window of VS Code in headless Chromium, driven by keys and read as a user reads it."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from playwright.async_api import Locator, Page, async_playwright

from tests.e2e.vscode.code_server import CodeServer

TIMEOUT_MS = 60_000.0
_WIDTH, _HEIGHT = 1200, 760
_GHOST_CLASSES = (
    "ghost-text ghost-text-decoration ghost-text-decoration-preview suggest-preview-text"
)
_GHOST = f":is({', '.join('.' + name for name in _GHOST_CLASSES.split())}):visible"
_OPTIONS = (
    "--no-sandbox",  # a container's root has no other way; the page is our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = (shutil.which(name) for name in names)
    return os.environ.get("FLASH_LSP_CHROMIUM") or next(filter(None, found), None)


@asynccontextmanager
async def opened(
    vsix: Path,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    last: Path,
    status: str = "fake|smollm2|qwen",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator["Window"]:
    """A window over a code-server of its own, once its status item says `status`; `last` gets a
    picture of how it looked in the end."""
    server = CodeServer(folder, settings, environment)
    try:
        server.start(vsix)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=find_chromium(), args=list(_OPTIONS)
            )
            page = await browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            window = Window(page, server.workspace)
            try:
                await window.load(server.url)
                await window.status(status)
                yield window
            finally:
                await window.screenshot(last)
                await browser.close()
    finally:
        server.end()


class Window:
    """One window with one folder."""

    def __init__(self, page: Page, workspace: Path) -> None:
        self.page, self.workspace = page, workspace
        self.wants = workspace.parent / "wants.json"
        self._file = workspace
        page.set_default_timeout(TIMEOUT_MS)

    @property
    def editor(self) -> Locator:
        """The open editor of the file that was opened last."""
        return self.page.locator(f'.monaco-editor[data-uri$="/{self._file.name}"]').last

    async def load(self, url: str) -> None:
        await self.page.goto(url, wait_until="domcontentloaded")
        await self.page.wait_for_selector(".monaco-workbench")

    async def status(self, pattern: str) -> None:
        """Wait until the status item says this."""
        item = self.page.locator("[id='flash-lsp.flash-lsp.state']")
        await item.filter(has_text=re.compile(pattern)).wait_for()

    def write(self, name: str, text: str) -> None:
        (self.workspace / name).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.workspace / name).read_text("utf-8")

    async def open(self, name: str, text: str) -> None:
        """Write a file, open it and put the cursor at its end."""
        self.write(name, text)
        self._file = self.workspace / name
        await self.press("Control+p")
        await self.type(name)
        await self.page.locator(f'.quick-input-list .monaco-list-row:has-text("{name}")').wait_for()
        await self.press("Enter")
        await self.page.locator(".quick-input-widget").wait_for(state="hidden")
        await self.editor.locator(".view-line").first.wait_for()
        await self.focus()
        await self.press("Control+End")

    async def focus(self) -> None:
        await self.press("Control+1")

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    async def type(self, text: str) -> None:
        await self.page.keyboard.type(text, delay=40)

    async def command(self, title: str) -> None:
        """Run a command from the palette."""
        await self.press("F1")
        await self.type(title)
        row = self.page.locator(f'.quick-input-list .monaco-list-row:has-text("{title}")')
        await row.first.wait_for()
        await self.press("Enter")
        await self.page.locator(".quick-input-widget").wait_for(state="hidden")

    async def answer(self, text: str) -> None:
        """Give the instruction that is asked for."""
        asking = self.page.locator(".quick-input-widget:visible").filter(has_text="What to do")
        await asking.locator(".quick-input-box input").fill(text)
        await self.press("Enter")

    async def difference(self, line: str) -> None:
        """Wait for the diff editor to have this line on its right side, and its keys to work."""
        shown = self.page.locator(".monaco-diff-editor .editor.modified .view-line")
        await shown.filter(has_text=line.strip()).first.wait_for()
        await self.page.locator(".editor-actions .codicon-check").wait_for()

    async def no_difference(self) -> None:
        await self.page.locator(".monaco-diff-editor").wait_for(state="detached")

    async def message(self, text: str) -> None:
        await self.page.locator(".notification-toast").filter(has_text=text).first.wait_for()

    async def press_button(self, name: str) -> None:
        button = self.page.locator(".notification-toast .monaco-button")
        await button.filter(has_text=name).first.click()

    async def confirm(self, question: str, answer: str) -> None:
        """Answer a question that stands before everything else."""
        box = self.page.locator(".monaco-dialog-box").filter(has_text=question)
        await box.locator(".monaco-button").filter(has_text=answer).first.click()
        await box.wait_for(state="detached")

    async def choose_action(self, title: str) -> None:
        row = self.page.locator(".action-widget .monaco-list-row").filter(has_text=title)
        await row.first.click()

    async def decoration(self, text: str) -> None:
        await self.until(lambda: self._is_decorated(text), f"the decoration {text!r}")

    async def no_decoration(self, text: str) -> None:
        async def is_gone() -> bool:
            return not await self._is_decorated(text)

        await self.until(is_gone, f"the decoration {text!r} to go")

    async def _is_decorated(self, text: str) -> bool:
        """Decorations are written by style sheets, so that only computed styles tell."""
        return await self.editor.evaluate(
            """(editor, text) => [...editor.querySelectorAll('.view-line span')].some(span =>
                getComputedStyle(span, '::after').content.replaceAll('\u00a0', ' ').includes(text)
            )""",
            text,
        )

    async def page_says(self, text: str) -> None:
        """Wait for a web view to hold this text."""

        async def is_so() -> bool:
            return any(text in page for page in await self.web_views())

        await self.until(is_so, f"a page with {text!r}")

    async def web_views(self) -> list[str]:
        frames = [f for f in self.page.frames if f.name in ("active-frame", "pending-frame")]
        return [await frame.content() for frame in frames]

    async def counts(self) -> dict[str, int]:
        """What the statistics count of completions; edits have rows of the same names."""
        await self.command("Show Statistics")
        await self.page_says("characters accepted")
        [page] = await self.web_views()
        await self.close_editors()
        table = page.partition("<h2>Completions</h2>")[2].partition("</table>")[0]
        rows = re.findall(r"<td>([^<]+)</td><td>([\d,]+)</td></tr>", table)
        return {name: int(count.replace(",", "")) for name, count in rows}

    async def counted(self, before: dict[str, int], more: dict[str, int]) -> None:
        """Wait until so much more than before is counted."""
        for _ in range(5):
            after = await self.counts()
            found = {name: after[name] - before[name] for name in more}
            if found == more:
                break
        assert found == more

    async def close_editors(self) -> None:
        await self.command("View: Close All Editors")
        await self.page.locator(".tabs-container .tab").first.wait_for(state="detached")

    async def ghost(self) -> str:
        """The suggestion in the editor, once there is one: its pieces as they are read."""
        shown = self.editor.locator(_GHOST)
        await shown.first.wait_for()
        pieces = await shown.evaluate_all(
            """pieces => pieces.map(piece => {
                const box = piece.getBoundingClientRect();
                return [box.top, box.left, piece.innerText];
            })"""
        )
        return "".join(text for *_, text in sorted(pieces)).replace("\xa0", " ")

    async def ghost_is(self, text: str) -> None:
        """Wait until this is the suggestion."""

        async def is_so() -> bool:
            return not await self._has_no_ghost() and await self.ghost() == text

        await self.until(is_so, f"the suggestion {text!r}")

    async def popup(self, selected: str) -> None:
        """Wait for the popup of completions to have this selected."""
        row = self.page.locator(".suggest-widget.visible .monaco-list-row.focused")
        await row.filter(has_text=selected).wait_for()

    async def gone(self) -> None:
        await self.until(self._has_no_ghost, "the suggestion to go")

    async def _has_no_ghost(self) -> bool:
        return await self.editor.locator(_GHOST).count() == 0

    async def text(self, expected: str) -> None:
        """Wait until the document is this."""
        text = await self._save_until(lambda text: text == expected)
        assert text == expected

    async def saved_after(self, before: str) -> str:
        """The document once it is another than before."""
        return await self._save_until(lambda text: text != before)

    async def _save_until(self, is_so: Callable[[str], bool]) -> str:
        """The document when that holds, else as it is after twenty seconds."""
        text = ""
        for _ in range(100):
            await self.press("Control+s")
            text = self._file.read_text("utf-8")
            if is_so(text):
                break
            await self.page.wait_for_timeout(200)
        return text

    async def settled(self) -> None:
        """Let what moves on the screen come to rest, for a picture."""
        await self.page.wait_for_timeout(1500)

    async def until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        for _ in range(100):
            if await is_so():
                return
            await self.page.wait_for_timeout(200)
        raise AssertionError(f"waited for {what}")

    async def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=path)

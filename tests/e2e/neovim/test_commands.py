"""`:FlashLsp`, the statusline, `:checkhealth` and the ways to set the plugin up, in real Neovim."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lsp_server.settings import Settings
from tests.e2e.command import flash_lsp
from tests.e2e.neovim.conftest import TOTAL, Session, lua_value, start_session
from tests.e2e.neovim.editor import Neovim, NeovimError, find_neovim, missing

pytestmark = pytest.mark.e2e

HEAD = TOTAL[: TOTAL.index("amount")]

New = Callable[..., Neovim]


@pytest.fixture(params=["0.11", "0.12"])
def new_neovim(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[New]:
    """Starts Neovim with an init of the test's own."""
    binary = find_neovim(request.param)
    if binary is None:
        pytest.skip(missing(request.param))
    started: list[Neovim] = []

    def start(init: str, **environment: str) -> Neovim:
        started.append(Neovim(binary, tmp_path, init, environment))
        return started[-1]

    yield start
    for neovim in started:
        neovim.end()


def window(editor: Session, command: str, text: str) -> str:
    """What a command shows in a floating window, once it says `text`."""
    editor.neovim.command(command)
    shown = "table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), '\\n')"
    is_float = "vim.api.nvim_win_get_config(0).relative ~= ''"
    said = f"{is_float} and {shown}:find({lua_value(text)}, 1, true) and {shown}"
    found = editor.neovim.wait(said, f"window with '{text}'")
    editor.neovim.type("q")
    editor.neovim.wait(f"not ({is_float})", "end of the window")
    return found


def test_status_names_the_model(editor: Session) -> None:
    editor.open("")
    editor.neovim.type("<Esc>")
    shown = window(editor, "FlashLsp status", "engine: ready")
    assert "model: fake (/models/fake.gguf)" in shown and "serve_scripted.py" in shown
    assert editor.neovim.lua("return require('flash_lsp').status()") == "fake"


def test_stats_count_what_was_shown(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost()
    editor.neovim.type("<Esc>")
    shown = window(editor, "FlashLsp stats", "accepted:")
    assert "  offered: " in shown and "engine:" in shown


def test_paused_nothing_is_offered_until_resumed(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost()
    editor.neovim.type("<Esc>")
    editor.neovim.command("FlashLsp pause")
    editor.neovim.wait("require('flash_lsp').status() == 'paused'", "pause")
    before = editor.stats()["outcomes"].get("disabled", 0)
    editor.neovim.type("A")
    disabled = "request_sync('flash/stats', nil, 5000).result.outcomes.disabled or 0"
    client = "vim.lsp.get_clients({ name = 'flash_lsp' })[1]"
    editor.neovim.wait(f"({client}:{disabled}) > {before}", "refusal while paused")
    editor.gone()
    editor.neovim.type("<Esc>")
    editor.neovim.command("FlashLsp resume")
    editor.neovim.wait("require('flash_lsp').status() == 'fake'", "resumption")
    editor.neovim.type("A")
    editor.ghost()


def test_a_restart_ends_ready(editor: Session) -> None:
    editor.open(HEAD)
    editor.neovim.type("<Esc>")
    editor.neovim.lua(
        """
        _G.states = {}
        vim.api.nvim_create_autocmd('User', { pattern = 'FlashLspStatus', callback = function(event)
          table.insert(_G.states, event.data.state)
        end })
        """
    )
    editor.neovim.command("FlashLsp restart")
    editor.neovim.wait("_G.states[#_G.states] == 'ready'", "restart")
    assert "loading" in editor.neovim.lua("return _G.states")


def test_the_log_says_where_neovims_own_is(editor: Session) -> None:
    editor.neovim.type("<Esc>")
    assert ".log" in window(editor, "FlashLsp log", "Neovim's own log: ")


def test_the_context_says_why_there_is_none(editor: Session) -> None:
    editor.open(HEAD)
    editor.neovim.type("<Esc>")
    shown = window(editor, "FlashLsp context", "abstained:")
    assert "mode: auto" in shown


def test_commands_are_completed_and_unknown_ones_named(editor: Session) -> None:
    found = editor.neovim.lua("return vim.fn.getcompletion('FlashLsp re', 'cmdline')")
    assert found == ["restart", "resume"]
    with pytest.raises(NeovimError, match="unknown command 'nothing'; known: context, edit"):
        editor.neovim.command("FlashLsp nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cmdd": ["x"]}, "unknown option cmdd; known: cmd, "),
        ({"cmd": "flash-lsp"}, 'cmd is "flash-lsp", expected a list of strings'),
        ({"cmd": [1]}, "expected a list of strings"),
        ({"settings": ["model"]}, "expected a table such as"),
        ({"ghost_text": "grey"}, "expected one of auto, plugin, builtin, off"),
        ({"keymaps": {"acept": "<Tab>"}}, "unknown option keymaps.acept; known: accept, "),
        ({"keymaps": {"accept": 3}}, "keymaps.accept is 3, expected a key"),
    ],
)
def test_options_that_are_wrong_are_named(
    editor: Session, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(NeovimError) as refused:
        editor.neovim.lua(f"require('flash_lsp').setup({lua_value(options)})")
    assert message in str(refused.value)


def test_settings_reach_the_server_and_unknown_ones_are_warned_of(
    tmp_path_factory: pytest.TempPathFactory, editor: Session
) -> None:
    options = {"settings": {"disabledLanguages": ["python"], "modle": "x"}}
    folder = tmp_path_factory.mktemp("settings")
    version = editor.neovim.lua("return vim.version().major .. '.' .. vim.version().minor")
    session = start_session(version, editor.drawer, folder, options)
    try:
        session.open(HEAD)
        session.neovim.wait(
            "vim.lsp.get_clients()[1]:request_sync('flash/stats', nil, 5000)"
            ".result.outcomes['disabled-language']",
            "refusal of the language",
        )
        session.neovim.type("<Esc>")
        window(
            session, "FlashLsp log", "unknown setting 'modle' was ignored; did you mean 'model'?"
        )
    finally:
        session.neovim.end()


def test_every_setting_is_taken_as_it_is_sent(new_neovim: New, tmp_path: Path) -> None:
    settings = msgspec.to_builtins(Settings())
    settings |= {"maxTokens": 7, "pflashPinned": ["*.md"], "indexExclude": ["*.log"]}
    chosen = {name: value for name, value in settings.items() if value not in (None, [])}
    command = [sys.executable, str(Path(__file__).parents[1] / "serve_scripted.py")]
    options = lua_value({"cmd": command, "settings": chosen})
    neovim = new_neovim(f"require('flash_lsp').setup({options})")
    (tmp_path / "a.py").write_text("x = 1\n")
    neovim.command(f"edit {tmp_path}/a.py")
    neovim.wait("require('flash_lsp').status() == 'fake'", "ready engine")
    neovim.lua("vim.lsp.get_clients()[1]:request_sync('flash/stats', nil, 5000)")
    assert "was ignored" not in "\n".join(neovim.lua("return require('flash_lsp.log').lines"))


def test_it_works_without_setup(new_neovim: New, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parents[1] / "serve_scripted.py")]
    neovim = new_neovim(
        f"vim.lsp.config('flash_lsp', {{ cmd = {lua_value(command)} }})\n"
        "vim.lsp.enable('flash_lsp')"
    )
    (tmp_path / "a.py").write_text("def add(a, b):\n    \n")
    neovim.command(f"edit {tmp_path}/a.py")
    neovim.wait("require('flash_lsp').status() == 'fake'", "ready engine")
    neovim.type("jA")
    neovim.wait("require('flash_lsp').visible()", "suggestion")
    neovim.type("<Tab>")
    neovim.wait("vim.api.nvim_get_current_line() == '    return a + b'", "accepted text")


def test_positions_in_utf16_are_understood(new_neovim: New, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parents[1] / "serve_scripted.py")]
    neovim = new_neovim(
        f"""
        require('flash_lsp').setup({{ cmd = {lua_value(command)} }})
        vim.lsp.config('flash_lsp', {{
          capabilities = {{ general = {{ positionEncodings = {{ 'utf-16' }} }} }},
        }})
        """
    )
    (tmp_path / "a.py").write_text('def add(a, b):\n    s = "😀é漢"; \n')
    neovim.command(f"edit {tmp_path}/a.py")
    neovim.wait("require('flash_lsp').status() == 'fake'", "ready engine")
    assert neovim.lua("return vim.lsp.get_clients()[1].offset_encoding") == "utf-16"
    neovim.type("jA")
    neovim.wait("require('flash_lsp').visible()", "suggestion")
    neovim.type("<M-Right>")
    neovim.wait("vim.api.nvim_get_current_line() == '    s = \"😀é漢\"; return'", "accepted word")


def test_one_server_serves_all_projects(new_neovim: New, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parents[1] / "serve_scripted.py")]
    neovim = new_neovim(f"require('flash_lsp').setup({{ cmd = {lua_value(command)} }})")
    for project in ("one", "two"):
        (tmp_path / project / ".git").mkdir(parents=True)
        (tmp_path / project / "a.py").write_text("x = 1\n")
        neovim.command(f"edit {tmp_path}/{project}/a.py")
        neovim.wait("vim.lsp.get_clients({ bufnr = 0 })[1] ~= nil", "attached server")
    assert neovim.lua("return #vim.lsp.get_clients()") == 1
    folders = neovim.lua(
        "return vim.tbl_map(function(folder) return folder.name end,"
        " vim.lsp.get_clients()[1].workspace_folders)"
    )
    assert [Path(name).name for name in folders] == ["one", "two"]


def health(neovim: Neovim) -> str:
    neovim.command("checkhealth flash_lsp")
    return neovim.text


def test_checkhealth_asks_the_doctor(new_neovim: New, tmp_path: Path) -> None:
    command = flash_lsp("serve", "--model", "no-such-model")
    neovim = new_neovim(f"require('flash_lsp').setup({{ cmd = {lua_value(command)} }})")
    (tmp_path / "a.py").write_text("x = 1\n")
    neovim.command(f"edit {tmp_path}/a.py")
    neovim.wait("require('flash_lsp').status() == 'failed'", "failure")
    report = health(neovim)
    assert "flash-lsp 0" in report and "OK Neovim 0." in report, report
    assert "ERROR engine: failed (" in report and "no-such-model" in report, report
    assert "no model is here" in report and "flash-lsp models fetch" in report, report


def test_checkhealth_says_how_to_install_what_is_missing(new_neovim: New) -> None:
    neovim = new_neovim("require('flash_lsp').setup({ cmd = { 'no-such-program', 'serve' } })")
    report = health(neovim)
    assert "ERROR no-such-program is not executable" in report, report
    assert "pip install" in report and "the server is not running" in report, report

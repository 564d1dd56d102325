"""The layers, the mirrors and the sizes that ARCHITECTURE.md promises."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("engine/**/*.py"), *ROOT.glob("lsp_server/**/*.py")])
NATIVE = sorted([*ROOT.glob("native/**/*.h"), *ROOT.glob("native/**/*.cpp")])
NO_BACKEND = (
    *("scheduler", "kv_blocks", "prefix_cache", "sampling", "request", "config", "errors"),
    *(f"speculation/{name}" for name in ("tree", "lookup", "corpus", "edit_pointer")),
    *(f"speculation/{name}" for name in ("acceptance", "calibration", "controller", "costs")),
)

MOST_FILE_LINES = 600
MOST_FUNCTION_LINES = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Modules a file imports anywhere, also inside functions and for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def uses(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(package + ".") for name in imports(path))


@pytest.mark.parametrize("path", sorted(ROOT.glob("engine/**/*.py")), ids=name_of)
def test_the_engine_knows_no_editor(path: Path) -> None:
    for package in ("lsp_server", "pygls", "lsprotocol"):
        assert not uses(path, package), f"{name_of(path)} imports {package}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_native_code_computes_for_the_cpu_backend_and_works_on_drafts(path: Path) -> None:
    on_drafts = ("engine/speculation/tree.py", "engine/speculation/corpus.py")
    if name_of(path) not in ("engine/backends/cpu.py", "engine/backends/gpu/step.py", *on_drafts):
        assert not uses(path, "engine._native")


@pytest.mark.parametrize("name", NO_BACKEND)
def test_bookkeeping_holds_no_tensors(name: str) -> None:
    path = ROOT / "engine" / f"{name}.py"
    for package in ("engine.backends", "engine.session", "engine.program"):
        assert not uses(path, package)


def test_lsprotocol_stays_at_the_edge() -> None:
    allowed = ("lsp_server/convert.py", "lsp_server/server.py", "lsp_server/transport.py")
    users = {name_of(path) for path in SOURCES if uses(path, "lsprotocol")}
    inner = {u for u in users if u not in allowed and not u.startswith("lsp_server/features/")}
    assert not inner


def test_there_is_no_import_cycle() -> None:
    modules = {name_of(p).removesuffix(".py").replace("/", "."): p for p in SOURCES}
    graph = {name: _top_level_imports(path) & set(modules) for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _top_level_imports(path: Path) -> set[str]:
    """What runs at import time: not inside functions, not for type checking only."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_owns(path: Path) -> None:
    text = path.read_text("utf-8")
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no module docstring"


@pytest.mark.parametrize("path", [*SOURCES, *NATIVE], ids=name_of)
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_FILE_LINES
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert n_lines <= MOST_FUNCTION_LINES, f"{node.name} has {n_lines} lines"


def test_tests_mirror_the_packages() -> None:
    """A test file tests the module of its name, in the folder of its name."""
    for test in [
        *ROOT.glob("tests/engine/**/test_*.py"),
        *ROOT.glob("tests/lsp_server/**/test_*.py"),
    ]:
        relative = test.relative_to(ROOT / "tests")
        module = ROOT / relative.with_name(relative.name.removeprefix("test_"))
        package = module.with_suffix("")
        assert module.exists() or package.is_dir() or relative.stem in _CROSS_CUTTING, (
            f"{name_of(test)} mirrors no module"
        )


# Tests of a property that several modules hold together.
_CROSS_CUTTING = {"test_invariance", "test_references"}


def test_the_version_is_declared_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] not in (ROOT / "CMakeLists.txt").read_text("utf-8")


def test_the_architecture_page_names_only_files_that_exist() -> None:
    import re

    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for name in re.findall(r"`((?:engine|lsp_server|native|tests)/[\w/]+\.(?:py|h|cpp))`", text):
        assert (ROOT / name).exists(), f"ARCHITECTURE.md names {name}, which does not exist"

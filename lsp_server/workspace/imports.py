"""Which files of the workspace a document imports: one table of import syntax for all languages.

Names of modules are resolved by the end of a file's path, which needs no search path, no build file
and no installed package: `a.b.c` is any file that ends in `a/b/c.py`. Where several do, the one
nearest to the document is meant.
"""

import posixpath
import re
from collections.abc import Callable

import msgspec

# Imports stand at the top; what is further down is seldom one.
_MOST_CHARS = 48 * 1024
_NAME = re.compile(r"[^\W\d]\w*")


class Import(msgspec.Struct, frozen=True):
    """A module that is imported and the names taken from it.

    `paths` are where it may lie, best first: ends of paths, or whole paths where `is_exact`. One
    that ends in "/*" means all files of a folder.
    """

    module: str
    names: tuple[str, ...]
    paths: tuple[str, ...]
    is_exact: bool = False


def imports_of(text: str, language: str, path: str) -> list[Import]:
    """List the imports of a document that lies at `path`, relative to its folder."""
    reader = _READERS.get(language)
    return reader(text[:_MOST_CHARS], posixpath.dirname(path)) if reader else []


def _names(text: str, *, not_these: tuple[str, ...] = ("as", "type", "self")) -> tuple[str, ...]:
    return tuple(name for name in _NAME.findall(text) if name not in not_these)


def _up(folder: str, n_levels: int) -> str:
    for _ in range(n_levels):
        folder = posixpath.dirname(folder)
    return folder


def _joined(*parts: str) -> str:
    joined = posixpath.normpath("/".join(part for part in parts if part))
    return "" if joined == "." else joined


# --- python --------------------------------------------------------------------------------------

_PYTHON = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)"
    r"|^[ \t]*import[ \t]+([^\n#]+)",
    re.MULTILINE,
)


def _python(text: str, folder: str) -> list[Import]:
    found: list[Import] = []
    for match in _PYTHON.finditer(text):
        dots, module, names, modules = match.groups()
        if modules is not None:
            for one in modules.split(","):
                name = one.split(" as ")[0].strip()
                if name:
                    found.append(Import(name, (), _python_paths(name.replace(".", "/"))))
            continue
        taken = _names(re.sub(r"\bas\s+\w+", "", names))
        base = (module or "").replace(".", "/")
        if dots:
            base = _joined(_up(folder, len(dots) - 1), base)
        inner = tuple(p for n in taken for p in _python_paths(_joined(base, n)))
        paths = (*_python_paths(base), *inner) if base else inner
        found.append(Import(f"{dots}{module}", taken, paths, is_exact=bool(dots)))
    return found


def _python_paths(base: str) -> tuple[str, ...]:
    return f"{base}.py", f"{base}/__init__.py", f"{base}.pyi"


# --- javascript and typescript -------------------------------------------------------------------

_SCRIPT = re.compile(
    r"^[ \t]*(?:import|export)[ \t]+(?:type[ \t]+)?([^;'\"]*?)\s*from[ \t]*['\"]([^'\"\n]+)['\"]"
    r"|^[ \t]*import[ \t]*['\"]([^'\"\n]+)['\"]"
    r"|(?:^[ \t]*(?:const|let|var)[ \t]+([^=;]+?)[ \t]*=[ \t]*(?:await[ \t]+)?)?"
    r"\b(?:require|import)\([ \t]*['\"]([^'\"\n]+)['\"][ \t]*\)",
    re.MULTILINE,
)
_SCRIPT_SUFFIXES = (
    ".ts",
    ".tsx",
    ".js",
    ".jsx",
    ".mts",
    ".mjs",
    ".cjs",
    ".d.ts",
    ".vue",
    ".svelte",
)


def _script(text: str, folder: str) -> list[Import]:
    found: list[Import] = []
    for match in _SCRIPT.finditer(text):
        names, module, bare, required, required_module = match.groups()
        module = module or bare or required_module
        is_exact = module.startswith(".")
        # "@/x" and "~/x" stand for the project's source folder.
        base = _joined(folder, module) if is_exact else re.sub(r"^[@~]/", "", module)
        stem = re.sub(r"\.(?:js|jsx|mjs|cjs)$", "", base)
        paths = (
            *((base,) if posixpath.splitext(base)[1] in _SCRIPT_SUFFIXES else ()),
            *(stem + suffix for suffix in _SCRIPT_SUFFIXES),
            *(f"{stem}/index{suffix}" for suffix in _SCRIPT_SUFFIXES[:4]),
        )
        found.append(Import(module, _names(names or required or ""), paths, is_exact))
    return found


# --- go ------------------------------------------------------------------------------------------

_GO = re.compile(r"^import[ \t]*(?:\(([^)]*)\)|([^\n]*))", re.MULTILINE)
_GO_PATH = re.compile(r'"([^"\n]+)"')


def _go(text: str, folder: str) -> list[Import]:
    modules = [m for match in _GO.finditer(text) for m in _GO_PATH.findall(match.group())]
    found = [Import(module, (), _ends_of(module)) for module in modules if "/" in module]
    own = Import("own package", (), (_joined(folder, "*"),), is_exact=True)
    return [own, *found]


def _ends_of(module: str) -> tuple[str, ...]:
    """The folders a Go import path may be: all ends of it, the longest first."""
    parts = module.split("/")
    return tuple("/".join((*parts[i:], "*")) for i in range(len(parts)))


# --- rust ----------------------------------------------------------------------------------------

_RUST = re.compile(
    r"^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?(?:use[ \t]+([^;]+);|mod[ \t]+(\w+)[ \t]*;)", re.MULTILINE
)


def _rust(text: str, folder: str) -> list[Import]:
    found: list[Import] = []
    for match in _RUST.finditer(text):
        used, module = match.groups()
        if module is not None:
            base = _joined(folder, module)
            found.append(Import(module, (), (f"{base}.rs", f"{base}/mod.rs"), is_exact=True))
            continue
        for path in _rust_paths(used):
            parts = [p for p in path.split("::") if p not in ("crate", "self", "super", "")]
            if parts and parts[0] not in ("std", "core", "alloc"):
                names = tuple(p for p in parts[-1:] if p != "*")
                found.append(Import("::".join(parts), names, _rust_files(parts)))
    return found


def _rust_paths(used: str) -> list[str]:
    """Write `a::{b, c::d as e}` as the paths a::b and a::c::d."""
    head, brace, rest = re.sub(r"\s+as\s+\w+|\s", "", used).partition("{")
    if not brace:
        return [head]
    paths: list[str] = []
    depth, piece = 0, ""
    for char in rest.removesuffix("}") + ",":
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            paths += [head + inner for inner in _rust_paths(piece)] if piece else []
            piece = ""
        else:
            piece += char
    return paths


def _rust_files(parts: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for end in range(len(parts), 0, -1):
        base = "/".join(parts[:end])
        found += [f"{base}.rs", f"{base}/mod.rs"]
        if end > 1:  # a crate of the workspace: its name is the folder above src
            inner = "/".join(parts[1:end])
            found.append(f"src/{inner}.rs")
    name = parts[0].replace("_", "-")
    return (*found, f"{name}/src/lib.rs", f"{parts[0]}/src/lib.rs")


# --- java and kin --------------------------------------------------------------------------------

_JAVA = re.compile(r"^[ \t]*import[ \t]+(?:static[ \t]+)?(\w+(?:\.\w+)*)(\.\*)?", re.MULTILINE)
_JAVA_SUFFIXES = (".java", ".kt", ".scala", ".groovy")


def _java(text: str, folder: str) -> list[Import]:
    found = [Import("own package", (), (_joined(folder, "*"),), is_exact=True)]
    for match in _JAVA.finditer(text):
        parts = match.group(1).split(".")
        base = "/".join(parts)
        paths = tuple(base + suffix for suffix in _JAVA_SUFFIXES)
        if match.group(2):
            paths = (f"{base}/*", *paths)
        elif len(parts) > 1:  # import static a.B.member, or a class inside another
            outer = "/".join(parts[:-1])
            paths = (*paths, *(outer + suffix for suffix in _JAVA_SUFFIXES))
        found.append(Import(match.group(1), () if match.group(2) else (parts[-1],), paths))
    return found


# --- c and c++ -----------------------------------------------------------------------------------

_C = re.compile(r"^[ \t]*#[ \t]*(?:include|import)[ \t]*[\"<]([^\">\n]+)[\">]", re.MULTILINE)


def _c(text: str, folder: str) -> list[Import]:
    return [
        Import(header, (), (_joined(folder, header), _joined(header.lstrip("./"))))
        for header in _C.findall(text)
    ]


# --- others --------------------------------------------------------------------------------------

_RUBY = re.compile(r"^[ \t]*require(_relative)?[ \t]*\(?['\"]([^'\"\n]+)['\"]", re.MULTILINE)
_LUA = re.compile(r"\brequire[ \t]*\(?[ \t]*['\"]([\w./-]+)['\"]")


def _ruby(text: str, folder: str) -> list[Import]:
    return [
        Import(
            name,
            (),
            ((_joined(folder, name) if relative else name).removesuffix(".rb") + ".rb",),
            is_exact=bool(relative),
        )
        for relative, name in _RUBY.findall(text)
    ]


def _lua(text: str, folder: str) -> list[Import]:
    bases = [name.replace(".", "/") for name in _LUA.findall(text)]
    return [Import(base, (), (f"{base}.lua", f"{base}/init.lua")) for base in bases]


_Reader = Callable[[str, str], list[Import]]
_READERS: dict[str, _Reader] = {
    language: reader
    for reader, languages in (
        (_python, "python cython starlark"),
        (_script, "javascript javascriptreact typescript typescriptreact html"),
        (_go, "go"),
        (_rust, "rust"),
        (_java, "java kotlin scala groovy"),
        (_c, "c cpp cuda-cpp objective-c objective-cpp"),
        (_ruby, "ruby"),
        (_lua, "lua"),
    )
    for language in languages.split()
}

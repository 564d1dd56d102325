"""Which language a file is written in, by its name: the protocol's language ids."""

from pathlib import PurePosixPath

_SUFFIXES = {
    "c": "c",
    "cpp": "cc cpp cxx c++ h hh hpp hxx ipp inl",
    "cuda-cpp": "cu cuh",
    "objective-c": "m",
    "objective-cpp": "mm",
    "csharp": "cs",
    "css": "css",
    "dart": "dart",
    "elixir": "ex exs",
    "go": "go",
    "groovy": "groovy gradle",
    "html": "html htm vue svelte astro",
    "java": "java",
    "javascript": "js mjs cjs",
    "javascriptreact": "jsx",
    "json": "json jsonc json5",
    "julia": "jl",
    "kotlin": "kt kts",
    "lua": "lua",
    "markdown": "md markdown mdx",
    "perl": "pl pm",
    "php": "php",
    "proto3": "proto",
    "python": "py pyi pyx",
    "r": "r",
    "restructuredtext": "rst",
    "ruby": "rb rake gemspec",
    "rust": "rs",
    "scala": "scala sc",
    "scss": "scss",
    "less": "less",
    "shellscript": "sh bash zsh fish",
    "sql": "sql",
    "swift": "swift",
    "toml": "toml",
    "typescript": "ts mts cts",
    "typescriptreact": "tsx",
    "xml": "xml xsd xsl",
    "yaml": "yaml yml",
    "zig": "zig zon",
    "cmake": "cmake",
}
_BY_SUFFIX = {suffix: name for name, all_of in _SUFFIXES.items() for suffix in all_of.split()}
_BY_NAME = {
    "makefile": "makefile",
    "gnumakefile": "makefile",
    "dockerfile": "dockerfile",
    "cmakelists.txt": "cmake",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "jenkinsfile": "groovy",
}
# Languages that call each other's definitions by the same names.
_FAMILIES = (
    ("javascript", "javascriptreact", "typescript", "typescriptreact", "html"),
    ("c", "cpp", "cuda-cpp", "objective-c", "objective-cpp"),
    ("java", "kotlin", "scala", "groovy"),
    ("css", "scss", "less"),
)
_FAMILY_OF = {language: family[0] for family in _FAMILIES for language in family}


def language_of(path: str) -> str:
    """Name the language of a file, "plaintext" where its name says nothing."""
    pure = PurePosixPath(path)
    name = pure.name.lower()
    return _BY_NAME.get(name) or _BY_SUFFIX.get(pure.suffix[1:].lower(), "plaintext")


def family_of(language: str) -> str:
    """Name one language for all that share their definitions."""
    return _FAMILY_OF.get(language, language)

"""Lists a folder's files: by git where it is a checkout, else by walking and reading .gitignore.

Links are never followed. Whatever goes wrong with git, the walk takes over, with a warning.
"""

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

# Nobody wants these, even where no .gitignore says so.
_NEVER_NAMES = """
    .git .hg .svn node_modules __pycache__ .venv .tox .nox .mypy_cache .pytest_cache .ruff_cache
    .gradle .idea .cache bower_components
"""
_NEVER = frozenset(_NEVER_NAMES.split())
_GIT_TIMEOUT_S = 60.0
_MOST_NESTED = 4  # checkouts within checkouts
_IGNORE_FILE = ".gitignore"


class GitError(Exception):
    """Git is not here or did not answer."""


class Listing:
    """The files of one folder that may be indexed, and which others would be.

    `excluded` are gitignore patterns of the user's own, which win over everything else.
    """

    def __init__(self, root: Path, excluded: Sequence[str], warn: Callable[[str], None]) -> None:
        self._root, self._warn = root, warn
        self._excluded = spec_of(excluded, "indexExclude", warn)
        self._uses_git = _is_checkout(root)

    def files(self) -> list[str]:
        """Relative paths in order, without ignored files; links are among them."""
        if self._uses_git:
            try:
                if found := sorted(set(self._by_git("", _MOST_NESTED))):
                    return found
            except GitError as error:
                self._warn(f"{self._root} is indexed without git: {error}")
            # A folder that an outer checkout ignores was opened all the same: it is walked.
            self._uses_git = False
        return sorted(self._by_walking())

    def is_excluded(self, path: str) -> bool:
        """Whether the user's own patterns keep a file out."""
        return bool(self._excluded.check_file(path).include)

    def ignored(self, paths: Iterable[str]) -> set[str]:
        """Which of these files a listing would leave out, excluded ones aside."""
        asked = list(paths)
        unwanted = {path for path in asked if _NEVER.intersection(path.split("/")[:-1])}
        rest = [path for path in asked if path not in unwanted]
        if self._uses_git and rest:
            try:
                said = _git(self._root, "check-ignore", "-z", "--stdin", given="\0".join(rest))
                return unwanted | set(said)
            except GitError as error:
                self._warn(f"ignored files of {self._root} are found without git: {error}")
                self._uses_git = False
        return unwanted | {path for path in rest if self._is_ignored_by_files(path)}

    def _by_git(self, folder: str, most_nested: int) -> Iterator[str]:
        at = self._root / folder
        for path in _git(at, "ls-files", "-co", "--exclude-standard", "-z"):
            if _NEVER.intersection(path.split("/")[:-1]):
                continue
            whole = f"{folder}{path}"
            at_path = f"{self._root}/{whole}"
            # A submodule or another checkout is named as one entry.
            if os.path.exists(f"{at_path}/.git") and not os.path.islink(at_path.rstrip("/")):
                if most_nested:
                    yield from self._by_git(f"{whole.rstrip('/')}/", most_nested - 1)
            elif not path.endswith("/"):
                yield whole

    def _by_walking(self) -> Iterator[str]:
        pending: list[tuple[str, tuple[tuple[str, GitIgnoreSpec], ...]]] = [("", ())]
        while pending:
            folder, specs = pending.pop()
            specs = self._with_rules_of(folder, specs)
            try:
                entries = sorted(os.scandir(self._root / folder), key=lambda entry: entry.name)
            except OSError as error:
                self._warn(f"'{folder or self._root}' is not indexed: {error.strerror}")
                continue
            for entry in entries:
                path = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    is_environment = os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))
                    is_unwanted = entry.name in _NEVER or is_environment
                    if not is_unwanted and not _is_ignored(path + "/", specs):
                        pending.append((path + "/", specs))
                elif not _is_ignored(path, specs):
                    yield path

    def _with_rules_of(
        self, folder: str, specs: tuple[tuple[str, GitIgnoreSpec], ...]
    ) -> tuple[tuple[str, GitIgnoreSpec], ...]:
        try:
            lines = (self._root / folder / _IGNORE_FILE).read_text("utf-8", "replace").splitlines()
        except OSError:
            return specs
        name = f"{folder}{_IGNORE_FILE}"
        return (*specs, (folder, spec_of(lines, name, self._warn)))

    def _is_ignored_by_files(self, path: str) -> bool:
        parts = path.split("/")
        specs: tuple[tuple[str, GitIgnoreSpec], ...] = ()
        for n in range(len(parts)):
            folder = "".join(f"{part}/" for part in parts[:n])
            specs = self._with_rules_of(folder, specs)
            if _is_ignored("/".join(parts[: n + 1]) + ("/" if n + 1 < len(parts) else ""), specs):
                return True
        return False


def is_ignore_file(path: str) -> bool:
    """Whether a change of this file changes what is listed."""
    return path.rpartition("/")[2] == _IGNORE_FILE or path == ".git/info/exclude"


def _is_ignored(path: str, specs: tuple[tuple[str, GitIgnoreSpec], ...]) -> bool:
    """The rules nearest to a file decide; in one file, the last that matches."""
    for folder, spec in reversed(specs):
        if (decision := spec.check_file(path[len(folder) :]).include) is not None:
            return decision
    return False


def spec_of(lines: Sequence[str], name: str, warn: Callable[[str], None]) -> GitIgnoreSpec:
    """Read patterns one by one, so that a broken one spoils no other."""
    good: list[str] = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
            good.append(line)
        except ValueError as error:
            warn(f"pattern '{line}' of {name} was ignored: {error}")
    return GitIgnoreSpec.from_lines(good)


def _is_checkout(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def _git(folder: Path, *arguments: str, given: str = "") -> list[str]:
    """What git says, split at NULs. A repository's configuration may not run programs."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.untrackedCache=keep", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            input=os.fsencode(given),
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise GitError(str(error)) from error
    # check-ignore answers 1 where nothing is ignored.
    if done.returncode not in ((0, 1) if arguments[0] == "check-ignore" else (0,)):
        raise GitError(done.stderr.decode(errors="replace").strip().split("\n")[0])
    return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]

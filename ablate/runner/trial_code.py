"""The code of a trial. Files are recorded by a hash: the trainer's module, the files that its `sources` names, and the local
modules that these import. The packages that they import are recorded by version.

A Python file is hashed by its syntax tree, since comments, blank lines and layout change no result. Docstrings are included,
since programs read them (as a prompt, as the help of an option). Every other file is hashed by its bytes.

Imports are followed where they are written, inside functions too, so that a module that is imported late is known before the
training begins; modules imported by computed names are added when they are loaded. The standard library, installed packages and
this package are not followed: their versions are recorded. A trainer of this package that runs from a checkout is local code
like any other."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import re
import site
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.contract import Trainer
from ablate.errors import BadInput

DIGITS = 12  # hexadecimal digits of a hash
MISSING = "missing"  # stands for the hash of a missing file
# Separates the versions of a file or package that changed during training. Not a plus sign: versions of packages contain it.
PHASES = " → "
OURS = Path(__file__).resolve().parent.parent
_INSTALLED = tuple(
    f"{path}/"
    for place in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        site.getusersitepackages(),
    )
    for path in (place, Path(place).resolve())
)
# Fields of a syntax tree that differ between versions of Python, or have no effect.
_SKIPPED = ("ctx", "kind", "type_comment", "type_ignores")

Import = tuple[int, tuple[str, ...]]  # level (0 for an absolute import) and dotted name


@dataclass(frozen=True)
class Code:
    """The code as it is recorded: hashes and versions."""

    files: Mapping[str, str]  # path from the study's folder, or from where it is imported -> hash
    packages: Mapping[str, str]  # distribution -> version

    def __or__(self, other: "Code") -> "Code":
        return Code({**self.files, **other.files}, {**self.packages, **other.packages})


class Sources:
    """The code of one trainer, as this process runs it."""

    def __init__(self, trainer: Trainer, folder: Path, loaded_before: Iterable[str]) -> None:
        """`folder`: of the study file. `loaded_before`: names of modules loaded before the trainer."""
        self._trainer, self._folder = trainer, folder
        self._looked_at = set(loaded_before)
        file = Path(trainer.file).resolve()
        self._own = file.parent if file.name == "__init__.py" else file
        paths = dict.fromkeys(Path(path).resolve() for path in sys.path if path)
        self._paths = [path for path in paths if _is_local(path)]
        # Recorded names of files are relative to these.
        self._roots = list(dict.fromkeys([folder.resolve(), _root_of(file), *self._paths]))
        self._file, self._code = file, Code({}, {})

    def loaded(self) -> Code:
        """Return the code of all modules that the trainer imports or has loaded so far.

        Each is read once, since editing a file does not change what is in memory."""
        if not self._code.files and not self._code.packages:
            local = self._file.is_file() and _is_local(self._file)
            package = self._trainer.name.partition(".")[0]
            self._code = self._read([self._file]) if local else Code({}, _version_of(package))
        new = sys.modules.keys() - self._looked_at
        self._looked_at |= new
        # Some modules load more when an attribute is read, and some name files that do not exist.
        named = (getattr(sys.modules[name], "__dict__", {}).get("__file__") for name in new)
        paths = (Path(file).resolve() for file in named if isinstance(file, str) and _is_local(Path(file)))
        files = [file for file in paths if file.is_file() and self._is_code(file)]
        now, before = self._read(files), self._code
        # Edited since this process began, so it is not known which version was loaded.
        edited = {
            name: f"{before.files[name]}{PHASES}{now.files[name]}"
            for name in map(self._name, files)
            if before.files.get(name, now.files[name]) != now.files[name]
        }
        self._code = now | before | Code(edited, {})
        return self._code

    def named(self, settings: Any) -> Code:
        """Return the code that the trainer's `sources` names for `settings`, as it is on disk now.

        Raises:
            BadInput: a file that it names does not exist.
        """
        files = [Path(file).resolve() for file in self._trainer.sources(settings)]
        if lost := [file for file in files if not file.is_file()]:
            raise BadInput(f"trainer: {self._trainer.name}.sources names {lost[0]}, which is not a file")
        return self._read(files)

    def folder(self, settings: Any) -> Path:
        """Return the folder of the user's code: of the trainer or, if that is one of ours, of the program that it runs.

        If the study file is the only file of the user, return its folder."""
        files = [self._file, *(Path(file).resolve() for file in self._trainer.sources(settings))]
        theirs = (file.parent for file in files if file.is_file() and not file.is_relative_to(OURS))
        return next(theirs, self._folder)

    def now(self, name: str) -> str:
        """Return the hash of a recorded file as it is now, or MISSING."""
        if name in self._code.files:
            return self._code.files[name]
        file = self._find(name)
        return _source(file)[0] if file else MISSING

    def _read(self, files: Iterable[Path]) -> Code:
        """Return the code of `files` and of everything local that they import."""
        hashes: dict[str, str] = {}
        packages: dict[str, str] = {}
        left, seen = list(files), set[Path]()
        while left:
            file = left.pop()
            if file in seen:
                continue
            seen.add(file)
            hashes[self._name(file)], imports = _source(file)
            local = _package_of(file)
            for level, dotted in imports:
                modules = self._local(file, level, dotted)
                local += modules
                if not modules and not level and dotted[0] != OURS.name:
                    packages |= _version_of(dotted[0])
            left += filter(self._is_code, local)
        return Code(dict(sorted(hashes.items())), dict(sorted(packages.items())))

    def _local(self, importer: Path, level: int, dotted: tuple[str, ...]) -> list[Path]:
        """Return the local files that an import runs: each parent package's `__init__` and the module."""
        roots = [importer.parents[level - 1]] if level else [_root_of(importer), *self._paths]
        for root in roots:
            stems = [root.joinpath(*dotted[: end + 1]) for end in range(len(dotted))]
            if files := [file for stem in stems for file in _files_of(stem)]:
                return files
        return []

    def _is_code(self, file: Path) -> bool:
        return _is_local(file) and (not file.is_relative_to(OURS) or file.is_relative_to(self._own))

    def _name(self, file: Path) -> str:
        names = (file.relative_to(root).as_posix() for root in self._roots if file.is_relative_to(root))
        return next((name for name in names if self._find(name) == file), str(file))

    def _find(self, name: str) -> Path | None:
        return next((file for root in self._roots if (file := root / name).is_file()), None)


def _source(file: Path) -> tuple[str, frozenset[Import]]:
    """Return a file's hash and what it imports."""
    state = file.stat()
    key = file, state.st_mtime_ns, state.st_size
    if key not in _READ:
        _READ[key] = _read_source(file)
    return _READ[key]


_READ: dict[tuple[Path, int, int], tuple[str, frozenset[Import]]] = {}


def _read_source(file: Path) -> tuple[str, frozenset[Import]]:
    if file.suffix == ".py":
        # A file of another version of Python, or one nested too deeply, is hashed by its bytes.
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(file.read_bytes())
            text = _dump(tree).encode(errors="surrogatepass")
            return hashlib.sha256(text).hexdigest()[:DIGITS], frozenset(_imports(tree))
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:DIGITS], frozenset()


def _dump(node: Any) -> str:
    """Return a syntax tree as text that is the same in all versions of Python."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in _SKIPPED)
        shown = (f"{name}={_dump(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({','.join(shown)})"
    return f"[{','.join(map(_dump, node))}]" if isinstance(node, list) else repr(node)


def _imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            yield from ((node.level, (*module, alias.name)) for alias in node.names)


def _package_of(file: Path) -> list[Path]:
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    return [init for init in [folder / "__init__.py"] if init.is_file()]


def _files_of(stem: Path) -> list[Path]:
    return [file for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py") if file.is_file()]


def _root_of(file: Path) -> Path:
    """Return the folder that a file's outermost package, or the file itself, is in."""
    return next(folder for folder in file.parents if not (folder / "__init__.py").is_file())


def _is_local(path: Path) -> bool:
    text = f"{path}/"
    return not text.startswith(_INSTALLED) and "/site-packages/" not in text and "/dist-packages/" not in text


@functools.cache
def _version_of(module: str) -> dict[str, str]:
    """Return {distribution: version} of an installed package by the name it is imported by."""
    if module in sys.stdlib_module_names:
        return {}
    # PyPI's `ablate` is another project.
    name = "ablate-studies" if module == OURS.name else module
    try:
        return {name: importlib.metadata.version(name)}
    except importlib.metadata.PackageNotFoundError:
        return _version_by_files(module)


def _version_by_files(module: str) -> dict[str, str]:
    """Return {distribution: version} of the first distribution that installed a module of this name.

    `importlib.metadata.packages_distributions` makes an object of every installed file, which takes half a second."""
    its_file = re.compile(rf"^{re.escape(module)}(/|\.[^/,]+,)", re.MULTILINE)
    for distribution in importlib.metadata.distributions():
        listed = (distribution.read_text("top_level.txt") or "").split()
        if module in listed or its_file.search(distribution.read_text("RECORD") or ""):
            return {distribution.name: distribution.version}
    return {}

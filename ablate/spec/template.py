"""The commented studies that `ablate init` writes, and the files they need. The only file in `spec` that writes to disk."""

import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

from ablate.errors import AblateError, BadInput
from ablate.spec.designs import KINDS
from ablate.spec.model import NAME_RULE, STUDY_NAME
from ablate.spec.scalars import resolve
from ablate.spec.script import study_of_script
from ablate.text import shown

# Template -> the files that it writes besides the study: their names in templates/ -> their names for the user.
EXTRA_FILES = {
    "study": {},
    "script": {"script.py.txt": "{module}.py"},
    "transformers": {"transformers.py.txt": "{module}.py"},
    "multitask": {},
    "csv": {"csv-train.csv": "{name}-train.csv", "csv-dev.csv": "{name}-dev.csv"},
}


def init_study(name: str, template: str = "study") -> dict[str, str]:
    """Return file name -> text: a commented study called `name` that runs without changes, then the files that it needs.

    Raises:
        BadInput: `name` cannot name a study.
    """
    _checked(name)
    # The name of a module that Python can import, whatever the study's name is.
    module = "train_" + re.sub(r"\W", "_", name)
    words = {
        "name": name,
        "study": f"{name}.yaml",
        "quoted": _as_yaml_text(name),
        "module": module,
        "script": f"{module}.py",
        "data": name,
        "designs": " | ".join(KINDS),
        "python": "python" if shutil.which("python") else "python3",
    }
    sources = {f"{name}.yaml": f"{template}.yaml"}
    sources |= {place.format(**words): source for source, place in EXTRA_FILES[template].items()}
    return {place: Template(_read(source)).substitute(words) for place, source in sources.items()}


def _read(source: str) -> str:
    return files("ablate.spec").joinpath("templates", source).read_text(encoding="utf-8")


def _checked(name: str) -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise BadInput(f"NAME: {shown(name)} cannot name a study; {NAME_RULE}")
    return name


def _as_yaml_text(name: str) -> str:
    try:
        return name if isinstance(resolve(name), str) else f'"{name}"'
    except ValueError:
        return f'"{name}"'


def write_study(name: str, script: Path | None = None, template: str = "study") -> str:
    """Write a study of `template`, or of `script`, to NAME.yaml in the working directory and return what to do next.

    Raises:
        BadInput: `name` cannot name a study, a file exists (all are left as they are), or the script has no options.
        AblateError: a file cannot be written.
    """
    study, fill_in = f"{name}.yaml", list[str]()
    if script is None:
        texts = init_study(name, template)
    else:
        text, fill_in = study_of_script(_checked(name), script)
        texts = {study: text}
    for path in texts:
        if Path(path).exists():
            raise BadInput(f"{path}: already exists and was left as it is; choose another name")
    for path, text in texts.items():
        _write(Path(path), text)
    first = f"fill in {', '.join(fill_in)}, then " if fill_in else ""
    return f"wrote {', '.join(texts)}; next: {first}ablate plan {study}"


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadInput(f"{path}: already exists and was left as it is; choose another name") from error
    except OSError as error:
        raise AblateError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error

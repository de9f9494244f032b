"""The commented study that `ablate init` writes. The only file in `spec` that writes to disk."""

import re
from importlib.resources import files
from pathlib import Path

from ablate.errors import AblateError, BadInput
from ablate.spec.model import NAME_RULE, STUDY_NAME
from ablate.spec.script import study_of_script
from ablate.spec.yaml_tree import resolve
from ablate.text import shown


def init_study(name: str) -> str:
    """Return a commented study called `name` that runs without changes.

    Raises:
        BadInput: `name` cannot name a study.
    """
    _checked(name)
    template = files("ablate.spec").joinpath("template.yaml").read_text(encoding="utf-8")
    return template.format(name=name, file=f"{name}.yaml", quoted=_as_yaml_text(name))


def _checked(name: str) -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise BadInput(f"NAME: {shown(name)} cannot name a study; {NAME_RULE}")
    return name


def _as_yaml_text(name: str) -> str:
    try:
        return name if isinstance(resolve(name), str) else f'"{name}"'
    except ValueError:
        return f'"{name}"'


def write_study(name: str, script: Path | None = None) -> str:
    """Write `init_study(name)`, or a study of `script`, to NAME.yaml in the working directory and return what to do next.

    Raises:
        BadInput: `name` cannot name a study, the file exists (it is left as it is), or the script has no options.
        AblateError: the file cannot be written.
    """
    text, fill_in = (init_study(name), []) if script is None else study_of_script(_checked(name), script)
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadInput(f"{path}: exists already and was left as it is; choose another name") from error
    except OSError as error:
        raise AblateError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    first = f"fill in {', '.join(fill_in)}, then " if fill_in else ""
    return f"wrote {path}; next: {first}ablate plan {path}"

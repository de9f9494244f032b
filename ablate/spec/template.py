"""The commented study that `ablate init` writes. The only file in `spec` that writes to disk."""

import re
from importlib.resources import files
from pathlib import Path

from ablate.errors import AblateError, BadInput
from ablate.spec.model import NAME_RULE, STUDY_NAME
from ablate.spec.yaml_tree import resolve
from ablate.text import shown


def init_study(name: str) -> str:
    """Return a commented study called `name` that works as it stands.

    Raises:
        BadInput: `name` cannot name a study.
    """
    if not re.fullmatch(STUDY_NAME, name):
        raise BadInput(f"NAME: {shown(name)} cannot name a study; {NAME_RULE}")
    template = files("ablate.spec").joinpath("template.yaml").read_text(encoding="utf-8")
    return template.format(name=name, file=f"{name}.yaml", quoted=_as_yaml_text(name))


def _as_yaml_text(name: str) -> str:
    try:
        return name if isinstance(resolve(name), str) else f'"{name}"'
    except ValueError:
        return f'"{name}"'


def write_study(name: str) -> str:
    """Write `init_study(name)` to NAME.yaml in the working directory and return what to do next.

    Raises:
        BadInput: `name` cannot name a study, or the file exists (it is left as it is).
        AblateError: the file cannot be written.
    """
    text = init_study(name)
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadInput(f"{path}: exists already and was left as it is; choose another name") from error
    except OSError as error:
        raise AblateError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    return f"wrote {path}; next: ablate plan {path}"

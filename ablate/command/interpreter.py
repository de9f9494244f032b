"""The environment of a program that Python runs, which may be another one than that of `ablate`."""

import functools
import json
import os
import re
import shutil
import subprocess
from typing import Any

# From an allowlist, like the provenance of every result.
PACKAGES = (
    "torch", "transformers", "tokenizers", "datasets", "accelerate", "peft", "lightning", "torchvision", "timm",
    "tensorflow", "keras", "jax", "flax", "scikit-learn", "xgboost", "lightgbm", "numpy", "scipy", "pandas",
)  # fmt: skip
# importlib.metadata is part of Python since 3.8.
ASK = """\
import importlib.metadata, json, platform, sys
versions = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""
LONGEST_S = 60.0
# The first line of a script such as torchrun: `#!/envs/mine/bin/python` or `#!/usr/bin/env python3`.
SHEBANG = re.compile(rb"#!\s*(?:/usr/bin/env\s+)?(\S*python[\d.]*)\s")


@functools.cache
def versions_in(program: str, path: str) -> dict[str, Any]:
    """Return {package: version} of the environment that `program` runs in; {} if it is not run by a Python that tells.

    `path`: the PATH."""
    interpreter = _interpreter(program, path)
    if interpreter is None:
        return {}
    try:
        done = subprocess.run(
            [interpreter, "-c", ASK, *PACKAGES],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST_S,
            # Not next to the study, where a json.py of the user's would be imported.
            cwd=os.sep,
        )
        # A sitecustomize may print something first.
        versions = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return {}
    return versions if isinstance(versions, dict) else {}


def _interpreter(program: str, path: str) -> str | None:
    """Return the Python that runs `program`: itself, or the one named in its first line; None if there is none."""
    found = shutil.which(program, path=path)
    if found is None:
        return None
    # Symlinks are kept: a virtual environment is known by the path of its Python.
    if os.path.basename(found).startswith("python"):
        return os.path.abspath(found)
    try:
        with open(found, "rb") as file:
            match = SHEBANG.match(file.readline(1000))
    except OSError:
        return None
    return shutil.which(os.fsdecode(match[1]), path=path) if match else None

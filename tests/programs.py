"""Studies of `trainer: ablate.command` for tests: a script, and the study that runs it."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

STUDY = """\
study: program
trainer: ablate.command
settings:
  command: {command}
{settings}factors:
  lr: {lr}
baseline: {{lr: {baseline}}}
design: full
seeds: {seeds}
metric: {{name: dev/accuracy}}
{more}"""

# What every script of these tests begins with.
HEAD = """\
import json, os, pathlib, signal, subprocess, sys, time
workdir = pathlib.Path(os.environ["ABLATE_WORKDIR"])
lr = json.loads(pathlib.Path(os.environ["ABLATE_SETTINGS"]).read_text()).get("lr")
"""
# How those end that have a result.
DONE = '\nprint(json.dumps({"dev/accuracy": 0.5}))\n'


def write_program(
    folder: Path,
    script: str = DONE,
    command: object = (sys.executable, "train.py", "{args}"),
    settings: Mapping[str, object] | None = None,
    lr: Sequence[object] = (0.1, 0.01),
    seeds: str = "[1]",
    more: str = "",
) -> Path:
    """Write train.py and a study that runs it; return the study's path. Every value is written as JSON."""
    (folder / "train.py").write_text(HEAD + script)
    lines = [
        f"  {name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in (settings or {}).items()
    ]
    study = folder / "program.yaml"
    study.write_text(
        STUDY.format(
            command=json.dumps(command),
            settings="".join(lines),
            lr=json.dumps(lr),
            baseline=json.dumps(lr[0]),
            seeds=seeds,
            more=more,
        )
    )
    return study


def workdirs(folder: Path) -> list[Path]:
    """Return where the trials of a test's study keep their files."""
    return sorted(folder.glob("runs/program/trials/*-*"))

"""`ablate plan --measure`: how long each part of a study takes on this machine, from the trainer's `measure`.

The trainer runs in a separate process with the threads of one worker, so that `plan` loads nothing heavy. The result is saved
in the study's folder, in a file named by machine, threads and the trainer's code; if any of these changes, it is measured again.

The process is `python -m ablate.runner.timing`, with the job on stdin."""

import datetime
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ablate.contract import Trainer, load_trainer
from ablate.design.model import Design
from ablate.errors import AblateError, BadInput
from ablate.files import write_file
from ablate.runner.machine import Memory, choose_device, cpu_name, gpu_names, memory_of, worker_environment
from ablate.runner.prepare import Prepared
from ablate.runner.provenance import machine_facts


class Measured(BaseModel):
    """What was measured, when and on which machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str  # a description of what was timed
    machine: str
    day: str
    seconds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]  # part hash -> seconds of training
    memory: Memory


def read_measured(prepared: Prepared) -> Measured | None:
    """Return this study's measurements on this machine; None if there are none, or the file is damaged."""
    try:
        return Measured.model_validate_json(_file(prepared).read_bytes())
    except (OSError, ValidationError):
        return None


def measure(prepared: Prepared, say: Callable[[str], None] = lambda line: None) -> Measured:
    """Return the measurements of all parts of the study. If one is missing, announce it with `say` and measure all.

    Raises:
        BadInput: the trainer cannot measure, or its data or settings are invalid.
        AblateError: training would fail here, or the measurements cannot be saved.
    """
    if prepared.trainer.measure is None:
        raise BadInput(_why_not(prepared.trainer))
    parts = parts_of_design(prepared.design)
    before = read_measured(prepared)
    if before is not None and parts.keys() <= before.seconds.keys():
        return before
    say("timing a few steps of each kind: about a minute")
    measured = _measured_elsewhere(prepared, parts)
    _keep(_file(prepared), measured)
    return measured


def _why_not(trainer: Trainer) -> str:
    advice = "`ablate run STUDY --limit 1` trains one trial to estimate from"
    if not trainer.is_built_in:
        advice += f", or add measure(trainings, context) to {trainer.file}"
    return f"--measure: {trainer.name} has no `measure`; {advice}"


def parts_of_design(design: Design) -> dict[str, dict[str, Any]]:
    """Return part hash -> settings."""
    return {part.hash: part.settings for cell in design.cells for part in cell.parts.values()}


def _file(prepared: Prepared) -> Path:
    environment = worker_environment(1)
    chosen = [environment.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ABLATE_DEVICE")]
    holds_for = [cpu_name(), *gpu_names(), *chosen, _code(prepared.trainer)]
    key = hashlib.sha256(json.dumps(holds_for).encode()).hexdigest()[:12]
    return prepared.place.folder / f"measured-{key}.json"


def _code(trainer: Trainer) -> str:
    """Return a hash of the trainer's source: its file, or all of its package."""
    file = Path(trainer.file)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return hashlib.sha256(b"\0".join(one.read_bytes() for one in files)).hexdigest()


def _measured_elsewhere(prepared: Prepared, parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    with tempfile.TemporaryDirectory(prefix="ablate-measuring-") as workdir:
        answer = ask(
            {
                "trainer": prepared.spec.trainer,
                "study_folder": str(prepared.spec.folder.resolve()),
                # Tokenised text, which the run needs too.
                "cache": str(prepared.place.cache),
                "workdir": workdir,
                "seed": prepared.spec.seeds[0],
                "parts": parts,
            }
        )
    if "faults" in answer:
        raise (BadInput if answer["bad_input"] else AblateError)(*answer["faults"])
    return Measured.model_validate(answer)


def ask(job: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a new process."""
    done = subprocess.run(
        # -P: modules in the working directory are not imported.
        [sys.executable, "-P", "-m", "ablate.runner.timing"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=worker_environment(1),
    )
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2] or "it printed nothing"
        raise AblateError(f"--measure: the measuring process ended with {done.returncode}: {last}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _keep(file: Path, found: Measured) -> None:
    try:
        write_file(file, found.model_dump_json(indent=1).encode())
    except OSError as error:
        raise AblateError(
            f"{file}: {error.strerror}; make room on the disk, or choose another --home"
        ) from error


def main() -> int:
    """Answer the job on stdin."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a trainer prints is not part of the answer.
    os.dup2(2, 1)
    with answer:
        json.dump(answer_to(json.loads(sys.stdin.buffer.read())), answer)
    return 0


def answer_to(job: dict[str, Any]) -> dict[str, Any]:
    """Measure as the job says; return the measurements, or the faults, as plain JSON."""
    try:
        return _measured_here(job).model_dump()
    except AblateError as error:
        return {"faults": error.faults, "bad_input": isinstance(error, BadInput)}
    except Exception as error:
        traceback.print_exc()
        text = str(error).strip().partition("\n")[0]
        return {
            "faults": [f"trainer: {job['trainer']}.measure: {type(error).__name__}: {text}"],
            "bad_input": False,
        }


def _measured_here(job: dict[str, Any]) -> Measured:
    # Imported here, since only this process needs it.
    from ablate.runner.cadence import Cadence
    from ablate.runner.context import Owner, PartContext

    trainer = load_trainer(job["trainer"], Path(job["study_folder"]))
    # Relative paths in a study start at its file.
    os.chdir(job["study_folder"])
    trainings = {name: trainer.Settings.model_validate(settings) for name, settings in job["parts"].items()}
    for settings in trainings.values():
        trainer.check(settings)
    context = PartContext(
        Owner(),
        seed=job["seed"],
        device=choose_device(),
        workdir=Path(job["workdir"]),
        cache=Path(job["cache"]),
        cadence=Cadence(math.inf),
    )
    assert trainer.measure is not None
    seconds = _plain(trainer.measure(trainings, context), trainings, trainer)
    facts = machine_facts(context.device)
    return Measured(
        what=str(context.facts.get("measured") or f"{len(seconds)} parts"),
        machine=facts["cpu"] if context.device == "cpu" else facts["gpu"] or context.device,
        day=datetime.datetime.now(datetime.UTC).date().isoformat(),
        seconds=seconds,
        memory=memory_of(context.device),
    )


def _plain(measured: Mapping[str, float], asked: Mapping[str, Any], trainer: Trainer) -> dict[str, float]:
    seconds = {name: float(measured.get(name, math.nan)) for name in asked}
    for name, value in seconds.items():
        if not 0 <= value < math.inf:
            raise BadInput(
                f"trainer: {trainer.name}.measure: found {measured.get(name)} for part {name}; return seconds, 0 or more"
            )
    return seconds


if __name__ == "__main__":
    sys.exit(main())

"""The exceptions. The command line catches `AblateError` in one place.

AblateError             an error: exit 1
├── BadInput            wrong usage or a bad file, one line per fault: exit 2, nothing was written
│   ├── BadSetting      a setting that the trainer refuses, named so that its place in the study file can be found: exit 2
│   └── StudyChanged    the study file, the trainer's code or its defaults changed after trials were run: exit 2
├── Unavailable         something we depend on is missing (network, hub, driver, database server): exit 1
├── StoreError          the database is locked, damaged or of another version: exit 1
└── TrialError          a trial cannot produce a result (NaN loss, out of memory): recorded as FAIL with its reason
"""


class AblateError(Exception):
    """Any error we can explain in one line: where, what was found, how to fix it."""

    exit_code = 1

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class BadInput(AblateError):
    """Wrong usage or a bad file. `faults` has one line per fault; nothing has been written."""

    exit_code = 2


class BadSetting(BadInput):
    """A setting that the trainer's `check` refuses. It is reported at its place in the study file."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"settings.{address}: {problem}")
        self.address, self.problem = address, problem


class StudyChanged(BadInput):
    """The study file, the trainer's code or its defaults changed after trials were run.

    `--extend` allows new levels and seeds, `--code` other code."""


class Unavailable(AblateError):
    """Something outside this machine or package is not available."""


class StoreError(AblateError):
    """The database cannot be used in its current state."""


class TrialError(AblateError):
    """The trial failed and would fail again (NaN, out of memory). The message gives the reason and the step."""

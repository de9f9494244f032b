"""What can go wrong, as exceptions. The command line catches `AblateError` once, at the door.

AblateError             an error: exit 1
├── BadInput            bad usage or a bad file, one line per fault: exit 2, nothing was written
│   └── Drift           the study file no longer says what the trials were run with: exit 2
├── Unavailable         something outside is not there (network, hub, driver, database server): exit 1
├── StoreError          the database is locked, damaged or not ours: exit 1
└── TrialError          a trial cannot give a result (NaN loss, out of memory): recorded as FAIL with its reason
"""


class AblateError(Exception):
    """Anything we can explain in one line: the place, what was found, what would do."""

    exit_code = 1

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class BadInput(AblateError):
    """Bad usage or a bad file. `faults` holds one line per fault; nothing has been written."""

    exit_code = 2


class Drift(BadInput):
    """The study file changed after its trials were run; `--extend` adds cells or seeds and nothing else."""


class Unavailable(AblateError):
    """Something outside this machine or package could not be had."""


class StoreError(AblateError):
    """The database cannot be used as it is."""


class TrialError(AblateError):
    """This trial has no result and would have none if tried again (NaN, out of memory): say why and at which step."""

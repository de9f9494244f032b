"""Commands that look after the installation: doctor, schema."""

import json

from ablate.cli.options import Home, Storage


def doctor(home: Home = None, storage: Storage = None) -> None:
    """Check GPU, driver, torch build, disk, hub and database: what works, and how to fix the rest.

    Example: ablate doctor
    """
    from ablate.runner.doctor import examine, findings_text
    from ablate.store.places import home_folder

    findings_text(examine(home_folder(home), storage), print)


def schema() -> None:
    """Print the JSON Schema of the study file."""
    from ablate.spec.schema import json_schema

    print(json.dumps(json_schema(), indent=2))

"""The two-minute notice before an EC2 spot instance is reclaimed, from the instance's metadata service."""

import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

METADATA = "http://169.254.169.254/latest"
POLL_S = 5.0


def watch_for_notice(on_notice: Callable[[], None]) -> None:
    """Call `on_notice` once when the instance is about to be reclaimed; do nothing on other machines."""
    if on_ec2():
        threading.Thread(target=_wait, args=(on_notice,), daemon=True).start()


def on_ec2(system: Path = Path("/sys")) -> bool:
    """Return whether this is an EC2 instance, according to its firmware; uses no network."""
    marks = {"devices/virtual/dmi/id/sys_vendor": "amazon ec2", "hypervisor/uuid": "ec2"}
    for name, beginning in marks.items():
        try:
            firmware = (system / name).read_text()
        except OSError:
            continue
        if firmware.lower().startswith(beginning):
            return True
    return False


def _wait(on_notice: Callable[[], None]) -> None:
    while not has_notice(METADATA):
        time.sleep(POLL_S)
    on_notice()


def has_notice(metadata: str) -> bool:
    """Return whether there is a notice. Without one the page does not exist; no answer means no notice."""
    try:
        life = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        asked = urllib.request.Request(f"{metadata}/api/token", method="PUT", headers=life)
        with urllib.request.urlopen(asked, timeout=2) as answer:
            token = {"X-aws-ec2-metadata-token": answer.read().decode()}
        asked = urllib.request.Request(f"{metadata}/meta-data/spot/instance-action", headers=token)
        with urllib.request.urlopen(asked, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False

import subprocess
import sys
import time

from ablate.runner.ownership import FileLocks

HOLD = """
import sys, time
from pathlib import Path
from ablate.runner.ownership import FileLocks
assert FileLocks(Path(sys.argv[1])).acquire("trial-1")
print("held", flush=True)
time.sleep(60)
"""


def holder(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_key_is_given_once(tmp_path):
    locks = FileLocks(tmp_path)
    assert locks.acquire("trial-1")
    assert not locks.acquire("trial-1")
    locks.release("trial-1")
    assert locks.acquire("trial-1")


def test_a_living_owner_keeps_its_key_and_a_killed_one_loses_it(tmp_path):
    locks = FileLocks(tmp_path)
    process = holder(tmp_path)
    assert not locks.acquire("trial-1")
    process.kill()
    process.communicate()
    assert locks.acquire("trial-1")


def test_a_frozen_owner_keeps_its_key(tmp_path):
    process = holder(tmp_path)
    process.send_signal(19)  # SIGSTOP
    time.sleep(0.2)
    assert not FileLocks(tmp_path).acquire("trial-1")
    process.kill()
    process.communicate()

"""The ends of a part's prefixes as files: saved by whoever gets there first, read by parts that begin later.

A file that is gone or damaged only means that the prefix is trained again."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate.errors import TrialError
from ablate.runner.checkpoint import read_state, write_state
from ablate.text import listed, one_line, shortened, shown

Saved = dict[str, Any]

# All files together take at most this share of the free space: one of BERT-base is 1.3 GB, and in a large study the part that
# would continue may be trained days later.
SHARE_OF_FREE = 0.1


class PrefixFiles:
    """A file for each prefix of one part × one seed. This base class saves every prefix, and continues from any that
    is intact."""

    def __init__(
        self, folder: Path, prefixes: Mapping[str, str], seed: int, notice: Callable[[str], None]
    ) -> None:
        """`prefixes`: the trainer's name for each -> its hash, first to last."""
        self._files = {name: folder / f"{prefix}-{seed}.checkpoint" for name, prefix in prefixes.items()}
        self._notice = notice

    def save(self, name: str, content: Callable[[], Saved]) -> None:
        """Save what a part has trained up to the end of a prefix, if that is needed.

        Raises:
            TrialError: the part has no prefix of that name.
            TypeError: the content has something that a checkpoint cannot contain.
        """
        if name not in self._files:
            given = listed(self._files) or "none"
            raise TrialError(
                f"context.prefix: found {shown(name)}; use a name that prefixes(settings) gives for this part: {given}"
            )
        if not self.is_needed(name):
            return
        file = self._files[name]
        saved = {**content(), "of": file.stem, "prefix": name, **self.made_with()}
        try:
            write_state(file, saved)
            _make_room(file.parent)
        except OSError as error:
            self._notice(
                f"{file}: {error.strerror or error}; parts that could continue from there train it again"
            )

    def furthest(self, check: Callable[[Saved, str], None], beyond: int) -> Saved | None:
        """Return what was saved at the last step of all, if it is beyond this one.

        `check(saved, of)` raises an error for what is not to be used."""
        for file in reversed(self._files.values()):
            try:
                saved = read_state(file)
                check(saved, file.stem)
                is_alike = self.is_alike(saved)
            except FileNotFoundError:
                continue
            except MemoryError:
                raise
            # As for checkpoints, except that one that cannot be read now is not waited for.
            except Exception as error:
                self._notice(f"{file}: damaged prefix skipped ({shortened(one_line(error), 200)})")
                continue
            if is_alike and saved["step"] > beyond:
                self.taken(saved)
                return saved
        return None

    def is_needed(self, name: str) -> bool:
        """Return whether another part will continue from there."""
        return True

    def made_with(self) -> Saved:
        """Return what `is_alike` needs."""
        return {}

    def is_alike(self, saved: Saved) -> bool:
        """Return whether this process would have trained the same bits."""
        return True

    def taken(self, saved: Saved) -> None:
        """Training continues from `saved`."""


def _make_room(folder: Path) -> None:
    """Remove the oldest files until the others take no more than their share of the disk."""
    files = [(status.st_mtime, status.st_size, file) for file, status in _files(folder)]
    most, together = SHARE_OF_FREE * shutil.disk_usage(folder).free, sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if together <= most:
            return
        file.unlink(missing_ok=True)
        together -= size


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for file in folder.glob("*.checkpoint"):
        # Another process may remove it.
        with contextlib.suppress(FileNotFoundError):
            yield file, file.stat()

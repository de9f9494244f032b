"""Prefixes: what several parts train alike is trained once. Nobody waits for anybody: two workers that train a prefix at the
same time both train it."""

import contextlib
import shutil
from collections.abc import Callable

from ablate.contract import Trainer
from ablate.design.cell_settings import Validator
from ablate.design.cells import prefixes_of
from ablate.design.model import Part
from ablate.files import remove
from ablate.runner.other_code import begin_note, is_of_now, joined, read_note
from ablate.runner.prefix_files import PrefixFiles, Saved
from ablate.runner.provenance import machine_facts
from ablate.runner.trial_code import Code, Sources
from ablate.store.writing import Store

# The facts of a machine that bits may depend on.
MACHINE = ("python", "platform", "cpu", "threads", "versions", "gpu")


class Prefixes:
    """The prefixes of a study's parts, and which of them are still needed."""

    def __init__(self, store: Store, trainer: Trainer) -> None:
        self.store, self.trainer = store, trainer
        self._validator = Validator(store.spec, trainer)
        self._known: dict[str, dict[str, str]] = {}  # hash of a part -> its prefixes

    def of(self, part: Part) -> dict[str, str]:
        """Return a part's prefixes, first to last: name -> hash."""
        if part.hash not in self._known:
            self._known[part.hash] = prefixes_of(part, self._validator)
        return self._known[part.hash]

    def needed(self, seed: int, but: str = "") -> set[str]:
        """Return the prefixes of the parts that trials with this seed still have to train, without the part with hash `but`."""
        cells = [self.store.cell(queued.cell) for queued in self.store.queue() if queued.seed == seed]
        parts = {part.hash: part for cell in cells for part in cell.parts.values()}
        left = parts.keys() - self.store.trained(parts, seed).keys() - {but}
        return {prefix for part in left for prefix in self.of(parts[part]).values()}

    def tidy(self) -> None:
        """Remove the files that nobody will continue from; when no trial is left, everything, also what killed processes left."""
        folder = self.store.place.prefix_folder
        if not folder.is_dir():
            return
        if not self.store.queue():
            shutil.rmtree(folder, ignore_errors=True)
        for file in folder.glob("*.checkpoint"):
            prefix, _, seed = file.stem.partition("-")
            if not seed.isdecimal() or prefix not in self.needed(int(seed)):
                # Another process may remove it, too.
                with contextlib.suppress(OSError):
                    remove(file)


class PartPrefixes(PrefixFiles):
    """The prefixes of a part that a worker trains for a trial."""

    def __init__(
        self,
        prefixes: Prefixes,
        part: Part,
        seed: int,
        *,
        device: str,
        sources: Sources,
        code: Code,
        notice: Callable[[str], None],
    ) -> None:
        """`code`: the code that trains the part, as `sources` has read it."""
        place = prefixes.store.place
        self._names = prefixes.of(part)
        super().__init__(place.prefix_folder, self._names, seed, notice)
        self._prefixes, self._part, self._seed = prefixes, part.hash, seed
        self._workdir = place.part_folder(part.hash, seed)
        self._sources, self._code = sources, code
        facts = machine_facts(device)
        self._machine = {name: facts[name] for name in MACHINE}

    def is_needed(self, name: str) -> bool:
        """Return whether another part still needs this prefix, and can use it: the code is as it was when this part was begun."""
        needed = self._names[name] in self._prefixes.needed(self._seed, but=self._part)
        return needed and self.is_alike(self.made_with())

    def made_with(self) -> Saved:
        """Return the code and the machine."""
        code = self._code | self._sources.loaded()
        return {"made_with": joined(read_note(self._workdir), code), "machine": self._machine}

    def is_alike(self, saved: Saved) -> bool:
        """Return whether code and machine are those of this process."""
        same_machine: bool = saved["machine"] == self._machine
        return same_machine and is_of_now(self._code, self._sources, saved["made_with"])

    def taken(self, saved: Saved) -> None:
        """Note the code that trained the prefix."""
        begin_note(self._workdir, self._code, saved["made_with"])

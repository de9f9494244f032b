"""What happened to a study that was disturbed, held against what may happen. Results may be right by luck, so nobody asks them.

The database records who began which part and how that ended (`ablate_history`). A witness looks at what is committed while the
study runs, as anybody could. A trainer that appends `PID STEP` lines to `steps.log` tells who really trained."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ablate.errors import AblateError
from ablate.store.places import Place
from ablate.store.reading import has_run, read_history, read_results
from ablate.store.results import Event, PartResult

Key = tuple[str, int]  # a part and its seed


@dataclass
class Witness:
    """Remembers everything that was ever seen committed."""

    place: Place
    points: dict[tuple[str, int, int, str], float] = field(default_factory=dict)
    parts: dict[Key, PartResult] = field(default_factory=dict)

    def look(self) -> None:
        """Remember what is committed now, if the database is there and answers."""
        try:
            if has_run(self.place):
                points, parts = committed(self.place)
                self.points.update(points)
                self.parts.update(parts)
        except AblateError:
            return

    def violations(self) -> list[str]:
        """Return what must not have happened."""
        points, parts = committed(self.place)
        history = read_history(self.place)
        return [
            *owners_violations(history),
            *(f"{key}: recorded, but the history does not say so" for key in unheard_of(history, parts)),
            *(f"{key}: was recorded, and is gone or changed" for key in lost(self.parts, parts)),
            *(f"point {key}: was acknowledged, and is gone or changed" for key in lost(self.points, points)),
            *steps_violations(history, self.place.folder),
        ]


def committed(
    place: Place,
) -> tuple[dict[tuple[str, int, int, str], float], dict[Key, PartResult]]:
    """Return the points and the parts in the database."""
    results = read_results(place)
    hashes = {part.hash for cell in results.cells for part in cell.parts.values()}
    points = {point[:4]: point.value for point in results.points(hashes)}
    return points, results.parts


def lost(seen: dict, now: dict) -> list:  # type: ignore[type-arg]
    """Return the keys of what was seen and is not there now as it was."""
    return [key for key, value in seen.items() if now.get(key) != value]


def unheard_of(history: Iterable[Event], parts: Iterable[Key]) -> list[Key]:
    """Return the recorded parts that nobody began or recorded."""
    told = {(event.part, event.seed, event.what) for event in history}
    return [key for key in parts if not {(*key, "begun"), (*key, "recorded")} <= told]


def owners_violations(history: Iterable[Event]) -> Iterator[str]:
    """Yield where a part was trained by two at once, or again after it was recorded."""
    owner: dict[Key, str] = {}
    recorded: dict[Key, str] = {}
    # Who did not end what they began, and saw somebody else begin it: killed, or lost its lock.
    thought_dead: dict[str, Key] = {}
    for event in history:
        key = event.part, event.seed
        if event.what == "lost" and thought_dead.get(event.who) == key:
            del thought_dead[event.who]
            continue
        if event.who in thought_dead:
            yield f"{thought_dead[event.who]}: {event.who} was alive when somebody else began it"
        if event.what == "begun":
            if key in recorded:
                yield f"{key}: recorded by {recorded[key]}, and trained again by {event.who}"
            if key in owner and owner[key] != event.who:
                thought_dead[owner[key]] = key
            owner[key] = event.who
        elif event.what == "forgotten":
            recorded.pop(key, None)
        elif owner.pop(key, recorded.get(key)) != event.who:
            yield f"{key}: {event.what} by {event.who}, who did not own it"
        elif event.what == "recorded":
            recorded[key] = event.who


def steps_violations(history: Iterable[Event], folder: Path) -> Iterator[str]:
    """Yield where the steps of two processes alternate, or a process trained what it had not begun."""
    begun = [(f"{event.part}-{event.seed}", event.who) for event in history if event.what == "begun"]
    claims = {(name, int(pid[1])) for name, who in begun if (pid := re.search(r"process (\d+)", who))}
    for log in sorted(folder.glob("trials/*/steps.log")):
        turns = [int(pid) for pid, _ in groupby(line.split()[0] for line in log.read_text().splitlines())]
        name = log.parent.name
        yield from (
            f"{name}: process {pid} and others took turns" for pid, n in Counter(turns).items() if n > 1
        )
        yield from (f"{name}: process {pid} had not begun it" for pid in turns if (name, pid) not in claims)


def assert_history(place: Place) -> None:
    """Hold what is recorded of a study that is done against what may happen."""
    assert Witness(place).violations() == []

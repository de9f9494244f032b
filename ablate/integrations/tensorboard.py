"""TensorBoard: event files in the study's folder; `tensorboard --logdir runs/STUDY/tensorboard`."""

from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from ablate.integrations.registry import Run

# The run's name begins the name of a folder, which may have 255 bytes.
NAME_CHARACTERS = 60


class EventFiles:
    """The curves of one run."""

    def __init__(self, run: Run) -> None:
        name = run.name.replace("/", "_")
        # Other names may be cleaned or cut to the same.
        if name != run.name or len(name) > NAME_CHARACTERS:
            name = f"{name[:NAME_CHARACTERS]} {run.key}"
        self._writer = EventFileWriter(str(run.folder / "tensorboard" / name))
        self._step: int | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point."""
        if self._step is None:
            # Makes TensorBoard drop an interrupted attempt's points from this step on.
            self._writer.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
        self._step = step
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.add_event(Event(step=step, summary=Summary(value=values)))
        # By default TensorBoard writes every two minutes, and a kill would
        # lose points that are not computed again after a checkpoint.
        self._writer.flush()

    def close(self, metrics: Mapping[str, float] | None) -> None:
        """Write what is buffered, and the final metrics."""
        if metrics:
            self.log(self._step or 0, {f"final/{name}": value for name, value in metrics.items()})
        self._writer.close()


def open_tracker(run: Run) -> EventFiles:
    """Return the run's event files."""
    return EventFiles(run)

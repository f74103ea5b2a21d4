"""What a training run tells: metrics as JSON lines and TensorBoard events, and progress with the time left."""

import contextlib
import json
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

import rich.progress
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from satjax.files import write_text
from satjax.progress import Pace, Progress, standard_error, unheard

LOG_LOSS, AUROC = "validation_log_loss", "validation_auroc"
"""Names of what is measured on validation instructions, in the metrics of the steps after which it is."""


class Board:
    """TensorBoard events, written by the calling thread: a full disk is an error here, where tensorboardX's own thread would die of it
    and block the run for good.
    """

    def __init__(self, directory: Path, first_step: int):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{first_step:09}"
        self.file = RecordWriter(str(directory / name))
        self._write(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)  # what an earlier run wrote from this step on is hidden
        self._write(Event(step=first_step + 1, session_log=start))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """One point of every curve."""
        for name, value in metrics.items():
            self._write(Event(step=step, summary=scalar(name, value)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self.file.write(event.SerializeToString())


class RunLog:
    """Metrics of one run under `workdir`; a resumed run drops what was logged after its checkpoint, so that no step stands twice."""

    def __init__(self, workdir: Path, *, first_step: int, total_steps: int):
        self.step, self.total, self.pace = first_step, total_steps, Pace()
        self.validated = ""
        self.path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= first_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.board = Board(workdir / "tensorboard", first_step)
        self.unsaved = False
        self.bar = rich.progress.Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=standard_error(),
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("training", total=total_steps, completed=first_step, loss="…")

    def __enter__(self) -> "RunLog":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as closing:
            closing.callback(self.board.file.close)
            closing.callback(self.file.close)
            self.bar.stop()

    def say(self, text: str) -> None:
        """One line for people, beside the bar."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def counter(self, what: str) -> Progress:
        """Hears how many of how many are done of something that goes before the steps."""
        task = self.bar.add_task(what, total=None, loss="", visible=False)

        def count(done: int, total: int) -> None:
            self.bar.update(task, completed=done, total=total, visible=done < total)
            due, left = self.pace.point(what, done, total)
            if self.bar.disable and due and left:
                self.pace.said()
                self.say(f"{what}: {done} of {total}, {left}")

        return count

    def save(self) -> None:
        """Closes what was written and opens it again: file systems over buckets store a file when it is closed, and a kill loses it until then."""
        if not self.unsaved:
            return
        self.unsaved = False
        self.file.close()
        self.file = self.path.open("a", encoding="utf-8")
        self.board.file.close()
        self.board = Board(self.board.directory, self.step)

    def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
        """Records the metrics after `step` steps; every process knows then that these are done."""
        self.step = step
        self.file.write(json.dumps({"step": step, "stage": stage, **metrics}) + "\n")
        self.file.flush()
        self.board.write(step, metrics)
        self.unsaved = True
        if LOG_LOSS in metrics:
            self.validated = f", {metrics[LOG_LOSS]:.4f} in validation"
        loss = f"{metrics['loss']:.4f}{self.validated}"
        self.bar.update(self.task, completed=step, description=stage, loss=loss)
        due, left = self.pace.point("training", step, self.total)
        if not due and step != self.total:
            return
        self.pace.said()
        self.board.file.flush()
        if self.bar.disable:
            told = f"{stage}: step {step} of {self.total}, loss {loss}"
            self.say(f"{told}, {left}" if left and step < self.total else told)


class Silent:
    """The log of the processes that write none."""

    def __init__(self, first_step: int):
        self.step = first_step

    def __enter__(self) -> "Silent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def say(self, text: str) -> None:
        """Nothing."""

    def counter(self, what: str) -> Progress:
        """Nobody listens."""
        return unheard

    def save(self) -> None:
        """Nothing."""

    def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
        """Notes the step."""
        self.step = step


def read_metrics(path: Path) -> list[dict]:
    """The lines of a `metrics.jsonl`; a last line that a kill cut short is passed over."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines

"""What a training run tells: metrics as JSON lines and TensorBoard events, and progress with the time left."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

SECONDS_BETWEEN_LINES = 15.0


class RunLog:
    """Metrics of one run under `workdir`; a resumed run drops what was logged after its checkpoint, so that no step stands twice."""

    def __init__(self, workdir: Path, *, first_step: int, total_steps: int, enabled: bool = True):
        self.enabled, self.total, self.first, self.started = enabled, total_steps, first_step, time.monotonic()
        self.last_line = self.started
        if not enabled:
            return
        self.path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= first_step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1, write_to_disk=True)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("training", total=total_steps, completed=first_step, loss="…")

    def __enter__(self) -> "RunLog":
        if self.enabled:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            self.bar.stop()
            self.file.close()
            self.board.close()

    def say(self, text: str) -> None:
        """One line for people, beside the bar."""
        if self.enabled:
            self.bar.console.print(text, highlight=False, markup=False)

    def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
        """Records the metrics after `step` steps."""
        if not self.enabled:
            return
        self.file.write(json.dumps({"step": step, "stage": stage, **metrics}) + "\n")
        self.file.flush()
        for name, value in metrics.items():
            self.board.add_scalar(name, value, step)
        self.bar.update(self.task, completed=step, description=stage, loss=f"{metrics['loss']:.4f}")
        now = time.monotonic()
        if self.bar.disable and (now - self.last_line > SECONDS_BETWEEN_LINES or step == self.total):
            self.last_line = now
            left = (now - self.started) / max(1, step - self.first) * (self.total - step)
            self.say(f"{stage}: step {step} of {self.total}, loss {metrics['loss']:.4f}, about {_duration(left)} left")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


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

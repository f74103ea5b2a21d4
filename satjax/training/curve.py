"""The picture of a run."""

from pathlib import Path
from typing import Any

import numpy as np

from satjax.training.run_log import AUROC, LOG_LOSS, read_metrics


def plot_training_curve(metrics: Path, target: Path) -> None:
    """Loss over the steps, each stage in its own colour, with a running mean, and below it what was measured in validation: a PNG at `target`."""
    from matplotlib.figure import Figure

    lines = read_metrics(metrics)
    validated = [line for line in lines if LOG_LOSS in line]
    figure = Figure(figsize=(8, 7 if validated else 4.5), dpi=120, layout="constrained")
    panels = figure.subplots(2 if validated else 1, sharex=True, squeeze=False)[:, 0]
    for number, stage in enumerate(dict.fromkeys(line["stage"] for line in lines)):
        of_stage = [line for line in lines if line["stage"] == stage]
        step, loss = np.array([line["step"] for line in of_stage]), np.array([line["loss"] for line in of_stage])
        window = max(1, min(25, len(loss) // 8))
        mean = np.convolve(loss, np.ones(window) / window, mode="valid")
        panels[0].plot(step, loss, color=f"C{number}", alpha=0.25, linewidth=0.8)
        panels[0].plot(
            step[window - 1 :], mean, color=f"C{number}", linewidth=2, label=f"{stage} (mean of {window} steps)"
        )
    panels[0].set(ylabel="training loss", title="satjax training")
    panels[0].legend()
    if validated:
        _draw_validation(panels[1], validated)
    for axes in panels:
        axes.grid(alpha=0.3)
    panels[-1].set(xlabel="optimizer step")
    figure.savefig(target)


def _draw_validation(axes: Any, lines: list[dict]) -> None:
    """Log loss on the left scale, its least value marked, and AUROC on the right one."""
    step, loss = [line["step"] for line in lines], [line[LOG_LOSS] for line in lines]
    least = int(np.argmin(loss))
    axes.plot(step, loss, color="black", marker=".", label="log loss")
    axes.plot(
        step[least], loss[least], "o", color="black", label=f"least: {loss[least]:.4f} after step {step[least]:,}"
    )
    axes.set(ylabel="validation log loss")
    right = axes.twinx()
    ordered = [(line["step"], line[AUROC]) for line in lines if AUROC in line]
    if ordered:
        right.plot(*zip(*ordered, strict=True), color="tab:green", marker=".", label="AUROC (right)")
    right.set(ylabel="validation AUROC")
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    right.legend(handles=handles, loc="center right")  # of the axes that are drawn last, or a curve would cross it

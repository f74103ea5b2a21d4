"""The picture of a run."""

from pathlib import Path

import numpy as np

from satjax.training.run_log import read_metrics


def plot_training_curve(metrics: Path, target: Path) -> None:
    """Loss over the steps, each stage in its own colour, with a running mean: a PNG at `target`."""
    from matplotlib.figure import Figure

    lines = read_metrics(metrics)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, stage in enumerate(dict.fromkeys(line["stage"] for line in lines)):
        of_stage = [line for line in lines if line["stage"] == stage]
        step, loss = np.array([line["step"] for line in of_stage]), np.array([line["loss"] for line in of_stage])
        window = max(1, min(25, len(loss) // 8))
        mean = np.convolve(loss, np.ones(window) / window, mode="valid")
        axes.plot(step, loss, color=f"C{number}", alpha=0.25, linewidth=0.8)
        axes.plot(step[window - 1 :], mean, color=f"C{number}", linewidth=2, label=f"{stage} (mean of {window} steps)")
    axes.set(xlabel="optimizer step", ylabel="training loss", title="satjax training")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(target)

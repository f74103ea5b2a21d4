import json

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from satjax.training.curve import plot_training_curve


def test_each_stage_is_drawn(tmp_path):
    def curve(stages: list[str]) -> np.ndarray:
        lines = [{"step": i + 1, "stage": stage, "loss": 2.0 / (i + 1)} for i, stage in enumerate(stages)]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        plot_training_curve(tmp_path / "metrics.jsonl", tmp_path / "curve.png")
        return matplotlib.image.imread(tmp_path / "curve.png")

    def colours(image: np.ndarray) -> set[tuple[int, ...]]:
        return set(map(tuple, (image[..., :3].reshape(-1, 3) * 255).round().astype(int)))

    blue, orange = (31, 119, 180), (255, 127, 14)
    one, two = curve(["connector"] * 40), curve(["connector"] * 20 + ["all"] * 20)
    assert one.shape == two.shape == (540, 960, 4)
    assert blue in colours(one)
    assert orange not in colours(one)
    assert {blue, orange} <= colours(two)
    assert curve(["connector"]).shape == (540, 960, 4), "a run of one step has a curve too"


def test_what_was_measured_in_validation_is_drawn_below(tmp_path):
    lines = [{"step": step, "stage": "all", "loss": 1.0} for step in range(1, 9)]
    for line, loss in zip(lines[1::2], (0.7, 0.5, 0.6, 0.65), strict=True):
        line |= {"validation_log_loss": loss, "validation_auroc": 0.7}
    del lines[-1]["validation_auroc"]  # all outcomes alike
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, target: drawn.update(figure=figure))
        plot_training_curve(tmp_path / "metrics.jsonl", tmp_path / "curve.png")
    above, below, right = drawn["figure"].axes
    assert above.get_ylabel() == "training loss"
    assert below.get_xlabel() == "optimizer step"
    curve, least = below.lines
    np.testing.assert_array_equal(curve.get_xydata(), [[2, 0.7], [4, 0.5], [6, 0.6], [8, 0.65]])
    assert least.get_label() == "least: 0.5000 after step 4"
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[2, 0.7], [4, 0.7], [6, 0.7]])
    plot_training_curve(tmp_path / "metrics.jsonl", tmp_path / "curve.png")
    assert matplotlib.image.imread(tmp_path / "curve.png").shape == (840, 960, 4)

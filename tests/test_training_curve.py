import json

import matplotlib.image
import numpy as np

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

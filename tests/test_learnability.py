"""What the machinery learns on the synthetic zoo within the demo's budget: minutes of training, so `make slow` runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from satjax import metrics
from satjax.evaluation.evaluate import figures_of, scored
from satjax.outcomes import planted_abilities, synthetic_zoo
from satjax.router import Router
from tests.xla import QUICK_CODE

CONFIG = Path(__file__).parents[1] / "configs" / "smoke.py"
HELD_OUT = ("synthetic-cobalt", "synthetic-falcon", "synthetic-juniper")


@pytest.mark.slow
def test_the_demo_learns_instructions_and_candidates_it_has_not_seen(tmp_path):
    """The bars are those of a twenty-minute run: the demo's three minutes reach them."""
    flags = ["--config", str(CONFIG), f"--config.data.held_out_candidates={HELD_OUT!r}", "--workdir", str(tmp_path)]
    # A process of its own: one device, not the eight simulated ones of the tests.
    code = "import sys; from satjax.cli import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run(
        [sys.executable, "-c", code, "train", *flags], check=True, env={**os.environ, "XLA_FLAGS": QUICK_CODE}
    )
    table = synthetic_zoo()
    found = scored(Router.load(tmp_path / "router"), table)
    new = np.array([name in HELD_OUT for name in found.candidates])
    trained, unseen = (
        metrics.auroc_pooled(found.probability_BM[:, chosen], found.outcome_BM[:, chosen]) for chosen in (~new, new)
    )
    print(
        f"AUROC on held-out instructions {trained:.3f}, of held-out candidates on them {unseen:.3f}, ceiling {ceiling():.3f}"
    )
    assert trained >= 0.85
    assert unseen >= 0.80
    routing = figures_of(found, table, {})["routing"]["all"]
    assert routing["router"] > routing["best_single"]


def ceiling() -> float:
    """AUROC of the planted abilities themselves: what a perfect router would reach."""
    table = synthetic_zoo()
    skills, ability = planted_abilities()
    test = table.split("test")
    column = [skills.index(item.task.removeprefix("synthetic/")) for item in test.items]
    value = metrics.auroc_pooled(ability[:, column].T.astype(float), test.scores_MN.T)
    assert value is not None
    return value

"""python benchmarks/deviation.py --outcomes DIR --out benchmarks/results/deviation.json

Whether `probability_deviation`, which `satjax assess` writes into a profile, is what it says. Every candidate of the shipped router, whose outcomes
on all aptitude items are in the outcome table DIR, is measured by K items drawn at random, five times, and by all of them. What the
probabilities of the test's items by K items differ from those by all of them (root mean square) stands beside what is said: the deviation by K items
less that by all, in squares. The candidates are those of the population that the router's prior was made of. A quarter of a minute of CPU.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from satjax.aptitude import profile_from_outcomes
from satjax.aptitude.measurement import PREFIX, AbilityScale
from satjax.checkpoint import load_arrays
from satjax.evaluation.protocols.onboarding import fewer_items
from satjax.export.directory import read_router
from satjax.files import write_text
from satjax.outcomes import read_outcomes
from satjax.pretrained import DEFAULT

SIZES, DRAWINGS = (16, 64, 256), 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    files, table = read_router(DEFAULT), read_outcomes(options.outcomes)
    scale = AbilityScale.from_params(
        load_arrays(DEFAULT / "params", {k: v for k, v in files.learned.items() if k.startswith(PREFIX)})
    )
    load_IR = scale.demand_TKR.reshape(-1, scale.demand_TKR.shape[-1])
    calibrated = files.calibration.probability

    def probability(profiles: list) -> np.ndarray:
        ability_MR = np.asarray(scale.abilities(profiles))
        return calibrated(ability_MR[:, :-1] @ load_IR[:, :-1].T + load_IR[:, -1] + ability_MR[:, -1:])

    whole = [profile_from_outcomes(table, files.test, name) for name in table.candidate_ids]
    by_all = probability(whole)
    said_all = np.array([scale.deviation(each.outcomes_TK, calibrated) for each in whole])
    nothing = np.full_like(whole[0].outcomes_TK, np.nan)
    figures = {
        "candidates": len(whole),
        "before any item": scale.deviation(nothing, calibrated),
        "all items": float(said_all.mean()),
        "sizes": {},
    }
    for size in SIZES:
        seen, said = [], []
        for seed in range(DRAWINGS):
            fewer = [fewer_items(each, size, seed) for each in whole]
            seen.append(np.mean((probability(fewer) - by_all) ** 2))
            said.append([scale.deviation(each.outcomes_TK, calibrated) for each in fewer])
        net = np.sqrt(np.mean(np.square(said)) - np.mean(said_all**2))
        figures["sizes"][size] = {
            "deviation": float(np.mean(said)),
            "said": float(net),
            "seen": float(np.sqrt(np.mean(seen))),
        }
    write_text(options.out, json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

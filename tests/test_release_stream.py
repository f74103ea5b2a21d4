from dataclasses import replace

import numpy as np
import pytest

from satjax import metrics
from satjax.errors import SatjaxError
from satjax.evaluation import write_html
from satjax.evaluation.protocols import release_stream
from satjax.evaluation.protocols.release_stream import in_order_of_release
from satjax.router import Router
from tests.families import families_table

pytestmark = pytest.mark.xdist_group("folds")

ORDER = (5, 1, 3, 2, 0, 4)


def test_candidates_come_in_order_of_release_and_ties_as_they_stood():
    table = families_table()
    assert in_order_of_release(table).candidate_ids == tuple(table.candidate_ids[m] for m in ORDER)


def test_a_candidate_without_a_date_is_named():
    table = families_table()
    undated = replace(table, candidates=(replace(table.candidates[0], release_date=None), *table.candidates[1:]))
    with pytest.raises(SatjaxError, match=f"{table.candidate_ids[0]}.*no release_date"):
        in_order_of_release(undated)


def test_the_newest_is_routed_to_without_having_been_trained_on(recipe, tmp_path):
    config, workdir = recipe
    figures = release_stream(config, workdir, first=5)
    table = in_order_of_release(families_table())
    assert figures["trained_on"] == list(table.candidate_ids[:5])
    (step,) = figures["releases"]
    assert step["newest"] == table.candidate_ids[5]
    assert step["zoo"] == list(table.candidate_ids)
    router = Router.load(workdir / "first-5" / "router")
    test = table.split("test")
    probability = router.probability([item.text for item in test.items], table.candidate_ids)
    outcome = np.ascontiguousarray(test.scores_MN.T)
    fixed = table.candidate_ids.index(step["best_single_candidate"])
    assert step["router"] == pytest.approx(metrics.routing(probability, outcome, best_single=fixed)["router"])
    write_html(figures, tmp_path / "report.html")
    assert step["newest"] in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert step["gain_interval"]["low"] <= step["router"] - step["best_single"] <= step["gain_interval"]["high"]


def test_too_few_or_too_many_at_first(recipe):
    for first in (4, 6):
        with pytest.raises(SatjaxError, match=f"first = {first} must be at least 5 and leave some of 6"):
            release_stream(*recipe, first=first)

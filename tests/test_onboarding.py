from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax import metrics
from satjax.aptitude import profile_from_outcomes, sample_aptitude_test
from satjax.evaluation.protocols import onboarding as module
from satjax.evaluation.protocols.onboarding import fewer_items, onboarding
from satjax.evaluation.report.html import write_html
from satjax.export.directory import read_router
from satjax.router import Router
from tests.families import families_table

pytestmark = pytest.mark.xdist_group("folds")

TABLE = families_table()
PROFILE = profile_from_outcomes(TABLE, sample_aptitude_test(TABLE, 4, 4, 0), TABLE.candidate_ids[0])


@given(st.integers(1, 20), st.integers(0, 5))
def test_fewer_items_are_some_of_those_observed(size, seed):
    in_turn = StubRouter.aptitude_test.in_turn(seed)
    fewer = fewer_items(PROFILE, size, in_turn)
    kept = ~np.isnan(fewer.item_outcome_TK)
    assert kept.sum() == fewer.count_T.sum() == min(size, 16)
    np.testing.assert_array_equal(fewer.item_outcome_TK[kept], PROFILE.item_outcome_TK[kept])
    assert np.ptp(kept.sum(axis=1)) <= 1, "spread over the tasks"
    more = ~np.isnan(fewer_items(PROFILE, size + 1, in_turn).item_outcome_TK)
    assert not (kept & ~more).any()


def test_a_size_says_how_many_items_were_answered_where_a_candidate_lacks_some(recipe, monkeypatch):
    asked = [item.id in sample_aptitude_test(TABLE, 4, 4, 0).item_ids for item in TABLE.items]
    scores, router = TABLE.scores_MN.copy(), StubRouter()
    scores[0, np.flatnonzero(asked)[:10]] = np.nan
    monkeypatch.setattr(module, "open_outcomes", lambda _: replace(TABLE, scores_MN=scores))
    monkeypatch.setattr(module, "trained", lambda *_, **__: router)
    sizes = onboarding(*recipe, sizes=(2, 16))["sizes"]
    assert "mean_items" not in sizes["2"]
    assert sizes["16"]["mean_items"] == (6 + 5 * 16) / 6


def test_each_draw_asks_all_candidates_the_same_items_as_an_assessment_does(recipe, tmp_path, monkeypatch):
    """A router that says what share of its items a candidate handled: every figure is the mean over draws that differ."""
    router = ShareRouter()
    monkeypatch.setattr(module, "open_outcomes", lambda _: TABLE)
    monkeypatch.setattr(module, "trained", lambda *_, **__: router)
    figures = onboarding(*recipe, sizes=(4, 16))
    found = figures["sizes"]["4"]
    assert found["draws"] == module.DRAWS
    test, names = TABLE.split("test"), TABLE.candidate_ids
    kept = np.array([[router.kept[f"{name} with 4 items, draw {d}"] for name in names] for d in range(module.DRAWS)])
    assert (kept == kept[:, :1]).all()
    assert len({items.tobytes() for items in kept[:, 0]}) > 0.8 * module.DRAWS
    taken = [[(t, k) for t, k in zip(*np.nonzero(items.reshape(4, 4)), strict=True)] for items in kept[:, 0]]
    assert taken == [sorted(router.aptitude_test.in_turn(draw)[:4]) for draw in range(module.DRAWS)]
    share = np.array([[router.share[f"{name} with 4 items, draw {d}"] for name in names] for d in range(module.DRAWS)])
    drawn = [np.broadcast_to(share_M, (len(test.items), len(names))) for share_M in share]
    for name, figure in metrics.CORRECTNESS.items():
        values = [figure(probability, test.scores_MN.T) for probability in drawn]
        assert found[name] == pytest.approx(np.mean(values), rel=1e-6)
        assert found["deviations"][name] == pytest.approx(np.std(values, ddof=1), rel=1e-4)
    routed = [metrics.routed_outcomes(probability, test.scores_MN.T).mean() for probability in drawn]
    assert found["routed"] == pytest.approx(np.mean(routed), rel=1e-6)
    assert found["deviations"]["routed"] == pytest.approx(np.std(routed, ddof=1), rel=1e-4)
    assert found["intervals"]["routed"][0] < found["routed"] < found["intervals"]["routed"][1]
    write_html(figures, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{100 * found['routed']:.2f} ± {100 * found['deviations']['routed']:.2f}" in page


class StubRouter:
    """Knows an aptitude test, and nothing else."""

    aptitude_test = sample_aptitude_test(TABLE, 4, 4, 0)

    def add(self, *profiles):
        """Nobody is kept."""

    calibration = SimpleNamespace(probability=lambda score_BM, dtype: score_BM.astype(dtype))

    def score(self, texts, names):
        """Chance."""
        return np.random.default_rng(0).random((len(texts), len(names)))


class ShareRouter(StubRouter):
    """P(handled) is the share of its items that a candidate handled."""

    def __init__(self):
        self.share, self.kept = {}, {}

    def add(self, *profiles):
        """Keeps the shares."""
        for profile in profiles:
            self.share[profile.candidate] = np.nanmean(profile.item_outcome_TK)
            self.kept[profile.candidate] = ~np.isnan(profile.item_outcome_TK).ravel()

    def score(self, texts, names):
        """The shares, of every text."""
        return np.tile(np.array([self.share[name] for name in names], np.float32), (len(texts), 1))


def test_each_size_has_figures_of_unseen_candidates(recipe, tmp_path):
    figures = onboarding(*recipe, sizes=(1000, 2, 64))
    assert list(figures["sizes"]) == ["2", "16"], "the test has 16 items"
    write_html(figures, tmp_path / "report.html")
    assert f"{figures['sizes']['16']['brier']:.4f}" in (tmp_path / "report.html").read_text(encoding="utf-8")
    test, names = TABLE.split("test"), TABLE.candidate_ids
    texts, columns = [item.text for item in test.items], []
    for m, name in enumerate(names):
        directory = recipe[1] / f"without-family-{'a' if m < 4 else 'b'}" / "router"
        assert name not in read_router(directory).abilities
        router = Router.load(directory)
        columns.append(router.probability(texts, [name]))
    full = metrics.auroc_pooled(np.concatenate(columns, axis=1), test.scores_MN.T)
    assert figures["sizes"]["16"]["auroc_pooled"] == pytest.approx(full, abs=1e-6)
    found = figures["sizes"]["16"]
    assert set(found["intervals"]) == set(found["deviations"]) == set(found) - {"intervals", "deviations", "draws"}
    assert found["draws"] == 1, "all items can be drawn in one way"
    assert set(found["deviations"].values()) == {None}
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high, name
    assert found["intervals"]["auroc_pooled"][0] <= full <= found["intervals"]["auroc_pooled"][1]
    assert figures["sizes"]["2"]["brier"] != figures["sizes"]["16"]["brier"]

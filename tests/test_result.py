"""What an assessment ends with: a profile that says how sure it is, and a router that knows the candidate."""

import threading

import numpy as np
import pytest

from satjax.aptitude import CapabilityProfile
from satjax.assess.result import (
    add_to_router,
    check_addable,
    check_enough,
    profile_of,
    remove_from_router,
    standard_error,
)
from satjax.assess.run import Assessment
from satjax.errors import SatjaxError
from satjax.export import directory as export
from satjax.export.directory import read_router, rewrite_router, router_sha256
from satjax.pretrained import DEFAULT
from satjax.router import Router
from tests.trained import Trained

SETTINGS = {"model": "m", "rotated": False}


def assessed(
    directory, share: float = 1.0, count: int | None = None, candidate: str = "new/model"
) -> CapabilityProfile:
    files = read_router(directory)
    items = sorted(files.test.item_ids)[:count]
    outcomes = {item: float(n < share * len(items)) for n, item in enumerate(items)}
    return profile_of(Assessment(outcomes=outcomes, tokens_in=5, tokens_out=6), files, directory, candidate, SETTINGS)


def test_the_profile_holds_the_outcomes_and_how_they_came_about(trained: Trained, tmp_path):
    profile = assessed(trained.router, 0.5)
    assert profile.count_T.sum() == 24
    assert np.nansum(profile.item_outcome_TK) == 12
    said = profile.assessment
    assert {
        key: said[key] for key in ("model", "rotated", "items", "of", "unparsed", "tokens_in", "tokens_out", "accuracy")
    } == {
        **SETTINGS,
        "items": 24,
        "of": 24,
        "unparsed": 0,
        "tokens_in": 5,
        "tokens_out": 6,
        "accuracy": 0.5,
    }
    assert said["accuracy_standard_error"] == pytest.approx(np.sqrt(0.25 / 28))
    assert "probability_deviation" not in said, "a router that reads accuracies has no model of what they leave open"
    profile.write(tmp_path / "p.json")
    again = CapabilityProfile.read(tmp_path / "p.json")
    assert again.assessment == said
    np.testing.assert_array_equal(again.item_outcome_TK, profile.item_outcome_TK)


def test_the_shipped_router_says_how_far_probabilities_are_known_and_more_items_say_more():
    known = [assessed(DEFAULT, 0.5, count).assessment for count in (16, 256)]
    before = known[0]["probability_deviation_before"]
    assert before == known[1]["probability_deviation_before"]
    assert before > 1.3 * known[0]["probability_deviation"] > 2 * known[1]["probability_deviation"] > 0


def test_a_perfect_sample_is_not_certain():
    assert standard_error(0, 0) == 0.25
    assert standard_error(20, 20) == pytest.approx(standard_error(0, 20)) == pytest.approx(0.0564, abs=1e-4)


def test_nothing_answered_is_no_profile(trained: Trained):
    found = Assessment(unanswered={"a": "HTTP 400: no"})
    with pytest.raises(SatjaxError, match=r"no item of the aptitude test was answered \(HTTP 400: no\)"):
        profile_of(found, read_router(trained.router), trained.router, "new", SETTINGS)


def test_the_router_knows_the_candidate_and_is_otherwise_as_it_was(trained: Trained, tmp_path):
    router = trained.copy(tmp_path / "router")
    before, text = Router.load(router), ["sort the list"]
    add_to_router(assessed(router), router, router)
    after = Router.load(router)
    assert set(after.candidates) == {*before.candidates, "new/model"}
    before.add(assessed(router))  # the same number of candidates: the same program, equal to the last bit
    names = after.candidates
    np.testing.assert_array_equal(after.probability(text, names), before.probability(text, names))
    assert "- `new/model`: 24 items, " in (router / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router"]


def test_assessed_again_it_is_replaced_and_the_card_names_it_once(trained: Trained, tmp_path):
    router = trained.copy(tmp_path / "router")
    for count in (8, 24):
        add_to_router(assessed(router, count=count), router, router)
    add_to_router(assessed(router, candidate="second"), router, router)
    card = (router / "README.md").read_text()
    assert card.count("new/model") == card.count("Added after training") == 1
    assert "- `new/model`: 24 items" in card
    files = read_router(router)
    assert [int(p.count_T.sum()) for p in files.profiles if p.candidate == "new/model"] == [24]
    assert len(files.profiles) == 8


def test_two_that_are_added_at_once_are_both_there(trained: Trained, tmp_path):
    router = trained.copy(tmp_path / "router")
    profiles = [assessed(router, candidate=name) for name in ("one", "other")]
    other = threading.Thread(target=add_to_router, args=(profiles[1], router, router))
    with rewrite_router(router, router) as (fresh, _):
        other.start()
        other.join(timeout=1)
        assert other.is_alive(), "it waits for the first"
        profiles[0].write(fresh / "profiles" / "one.json")
    other.join()
    assert {"one", "other"} <= {profile.candidate for profile in read_router(router).profiles}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router"]


def test_of_two_new_routers_at_one_place_the_second_is_refused(trained: Trained, tmp_path):
    refused = []

    def add() -> None:
        try:
            with rewrite_router(trained.router, tmp_path / "new"):
                pass
        except SatjaxError as error:
            refused.append(str(error))

    other = threading.Thread(target=add)
    with rewrite_router(trained.router, tmp_path / "new"):
        other.start()
        other.join(timeout=1)
    other.join()
    assert refused == [f"{tmp_path / 'new'} exists; name a new directory for the router"]
    assert len(read_router(tmp_path / "new").profiles) == 6


def test_the_second_extends_what_the_first_has_written_where_that_is_wanted(trained: Trained, tmp_path):
    new = tmp_path / "new"
    profile = assessed(trained.router, candidate="other")
    other = threading.Thread(target=add_to_router, args=(profile, trained.router, new))
    with rewrite_router(trained.router, new) as (fresh, _):
        assessed(trained.router, candidate="one").write(fresh / "profiles" / "one.json")
        other.start()
        other.join(timeout=1)
        assert other.is_alive(), "it waits for the first"
    other.join()
    assert {"one", "other"} <= {profile.candidate for profile in read_router(new).profiles}
    with pytest.raises(SatjaxError, match="exists; name a new directory"):
        add_to_router(assessed(trained.router), trained.router, tmp_path)


def test_a_profile_under_another_file_name_is_replaced(trained: Trained, tmp_path):
    router = trained.copy(tmp_path / "router")
    with rewrite_router(router, router) as (fresh, _):
        assessed(router, count=8).write(fresh / "profiles" / "as-it-was-called.json")
    add_to_router(assessed(router), router, router)
    assert [int(p.count_T.sum()) for p in read_router(router).profiles if p.candidate == "new/model"] == [24]


@pytest.mark.parametrize("candidate", ["m" * 251, "模" * 90])
def test_a_candidate_with_a_long_id_is_added(trained: Trained, tmp_path, candidate):
    add_to_router(assessed(trained.router, candidate=candidate), trained.router, tmp_path / "copy")
    assert candidate in {profile.candidate for profile in read_router(tmp_path / "copy").profiles}


def test_a_copy_leaves_the_router_alone(trained: Trained, tmp_path):
    before = router_sha256(trained.router), (trained.router / "README.md").read_bytes()
    add_to_router(assessed(trained.router), trained.router, tmp_path / "copy")
    assert (router_sha256(trained.router), (trained.router / "README.md").read_bytes()) == before
    assert read_router(trained.router).calibration == read_router(tmp_path / "copy").calibration
    assert "new/model" in Router.load(tmp_path / "copy").candidates


def test_candidates_of_the_training_are_not_replaced(trained: Trained):
    files = read_router(trained.router)
    with pytest.raises(SatjaxError, match=r"knows a candidate .* already, from its training; name this one otherwise"):
        check_addable(files, files.profiles[0].candidate)


def test_a_candidate_that_was_added_is_taken_out_again(trained: Trained, tmp_path):
    router = trained.copy(tmp_path / "router")
    card = (router / "README.md").read_text()
    for name in ("one", "other"):
        add_to_router(assessed(router, candidate=name), router, router)
    remove_from_router("one", router)
    assert "one" not in Router.load(router).candidates
    assert "`other`" in (router / "README.md").read_text()
    remove_from_router("other", router)
    assert (router / "README.md").read_text() == card
    assert router_sha256(router) == router_sha256(trained.router)


def test_who_was_trained_stays_and_who_is_not_there_is_not_taken_out(trained: Trained, tmp_path):
    router = trained.copy(tmp_path / "router")
    known = read_router(router).profiles[0].candidate
    with pytest.raises(SatjaxError, match="from its training; only candidates that were added to it can be taken out"):
        remove_from_router(known, router)
    with pytest.raises(SatjaxError, match=f"unknown candidate .* did you mean '{known}'"):
        remove_from_router(f"{known}x", router)
    with pytest.raises(SatjaxError, match="comes with satjax stays as it is"):
        remove_from_router("gpt-4o", DEFAULT)
    assert router_sha256(router) == router_sha256(trained.router)


def test_who_never_replied_goes_into_no_router():
    """A filter that declines every one of a few items, or a server that is too slow for them all, says nothing of the model."""
    found = Assessment(
        outcomes={f"i/{n}": 0.0 for n in range(16)}, undelivered={f"i/{n}": "HTTP 451" for n in range(16)}
    )
    with pytest.raises(
        SatjaxError, match=r"no item got a reply \(i/0: HTTP 451\), so that the candidate goes into no router"
    ):
        check_enough(found, "m.json")
    del found.undelivered["i/3"]
    check_enough(found, "m.json")


def test_where_more_than_a_tenth_got_no_reply_the_candidate_goes_into_no_router():
    outcomes = {f"i/{n}": 1.0 for n in range(18)}
    found = Assessment(outcomes=outcomes, unanswered={"a": "HTTP 500", "b": "HTTP 500"})
    check_enough(found, "m.json")
    found.unanswered["c"] = "HTTP 400"
    with pytest.raises(SatjaxError, match=r"3 of 21 items got no reply \(a: HTTP 500\).* run the same command again"):
        check_enough(found, "m.json")


def test_what_fails_leaves_the_router_as_it_was(trained: Trained, tmp_path, monkeypatch):
    router = trained.copy(tmp_path / "router")
    before = router_sha256(router)
    monkeypatch.setattr(export, "_write_config", lambda fresh, config: 1 / 0)
    profile = assessed(trained.router)
    with pytest.raises(ZeroDivisionError):
        add_to_router(profile, router, router)
    monkeypatch.undo()
    assert router_sha256(router) == before
    assert read_router(router)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router"]

"""Routers that are averaged as seeds are of one recipe, and not one router twice."""

from dataclasses import replace

import pytest

from satjax.cli import main
from satjax.errors import SatjaxError
from satjax.evaluation import seeds as module
from satjax.evaluation.seeds import check_seeds
from satjax.export.directory import read_router
from tests.trained import Trained


def test_the_same_router_twice_is_refused_before_anything_is_scored(trained: Trained, tmp_path, capsys):
    again = trained.copy(tmp_path / "again")
    routers = ["--router", str(trained.router), str(again)]
    assert main(["bench", *routers, "--outcomes", str(trained.outcomes), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    assert f"routers {trained.router} and {again} learned the same" in said
    assert "\n" not in said
    with pytest.raises(SatjaxError, match="learned the same"):
        check_seeds([trained.router, trained.router])


def test_one_router_is_checked_by_nobody(tmp_path):
    check_seeds([tmp_path / "none"])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("router.prompt.buckets", lambda files: replace(files, config=_shorter(files.config))),
        ("base_sha256.llm", lambda files: replace(files, base_sha256={**files.base_sha256, "llm": "0"})),
    ],
)
def test_what_differs_between_recipes_is_named(name, changed, trained: Trained, tmp_path, monkeypatch):
    other = trained.copy(tmp_path / "other")
    monkeypatch.setattr(
        module, "read_router", lambda place: changed(read_router(place)) if place == other else read_router(place)
    )
    with pytest.raises(SatjaxError, match=f"no seeds of one recipe: {name} is "):
        check_seeds([trained.router, other])


def test_seeds_of_one_recipe_may_have_their_base_weights_in_different_places(trained: Trained, tmp_path, monkeypatch):
    other = trained.copy(tmp_path / "other")

    def read(place):
        files = read_router(place)
        moved = replace(files.config, llm=replace(files.config.llm, weights="dir:/elsewhere"))
        return replace(files, config=moved) if place == other else files

    monkeypatch.setattr(module, "read_router", read)
    monkeypatch.setattr(module, "learned_digests", str)
    check_seeds([trained.router, other])


def _shorter(config):
    return replace(config, prompt=replace(config.prompt, buckets=config.prompt.buckets[:-1]))

import pytest

from satjax.aptitude import sample_aptitude_test
from satjax.evaluation.protocols.folds import families, fold_folder, trained
from satjax.training.run_log import read_metrics
from tests.families import families_table
from tests.tiny import tiny_table

pytestmark = pytest.mark.xdist_group("folds")


def test_families_hold_every_candidate_once():
    table = families_table()
    assert families(table) == {"a": list(table.candidate_ids[:4]), "b": list(table.candidate_ids[4:])}
    assert families(tiny_table()) == {"synthetic": list(tiny_table().candidate_ids)}


def test_every_fold_has_a_folder_of_its_own(tmp_path):
    names = [
        "without-category-computer science",
        "without-category-computer_science",
        "without-category-computer/science",
    ]
    folders = [fold_folder(tmp_path, name) for name in names]
    assert len(set(folders)) == 3
    assert folders == [fold_folder(tmp_path, name) for name in names]
    assert folders[1].name == names[1]
    assert {folder.parent for folder in folders} == {tmp_path}


def test_a_fold_knows_nothing_of_what_it_leaves_out_and_is_trained_once(recipe):
    config, workdir = recipe
    table = families_table()
    names = table.candidate_ids
    router = trained(config, workdir, "without-b", candidates=names[4:])
    expected = sample_aptitude_test(
        table.select_candidates(names[:4]), 4, 4, config.aptitude.seed, config.aptitude.draw
    )
    assert router.aptitude_test == expected
    assert set(router.candidates) == set(names)
    checkpoints = workdir / "without-b" / "checkpoints"
    before = checkpoints.stat().st_mtime_ns
    assert trained(config, workdir, "without-b", candidates=names[4:]).aptitude_test == expected
    assert checkpoints.stat().st_mtime_ns == before
    assert len(read_metrics(workdir / "without-b" / "metrics.jsonl")) == config.total_steps

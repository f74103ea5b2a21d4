"""The OpenCompass importer on real results, and on what it must refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.outcomes.importers.opencompass import import_opencompass
from satjax.outcomes.splits import split_of

DATA = Path(__file__).parent / "data" / "opencompass"


def prediction(number: int = 0, **changes) -> dict:
    return {"origin_prompt": f"Q {number}?", "prediction": "4", "gold": f"g{number}"} | changes


def write(folder: Path, predictions: object, results: object, model: str = "m", part: str = "") -> Path:
    for kind, name, value in (("predictions", f"sums{part}", predictions), ("results", "sums", results)):
        (folder / kind / model).mkdir(parents=True, exist_ok=True)
        (folder / kind / model / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_real_results_of_two_models():
    table = import_opencompass([DATA])
    assert table.candidate_ids == ("garden-1", "garden-2")
    np.testing.assert_array_equal(table.scores_MN, [[1, 1, 1, 0], [0, 1, 0, 1]])
    for m, scores_N in enumerate(table.scores_MN, start=1):
        assert json.loads((DATA / f"results/garden-{m}/garden_gen.json").read_text())["score"] == 100 * scores_N.mean()
    item = table.items[0]
    assert item.text == "Q: A gardener plants 3 rows of 4 tulips. How many tulips is that?\nA:"
    assert (item.id, item.task, item.answer) == ("opencompass/garden_gen/0", "garden_gen", "12")
    assert item.split == split_of(item.text)


def test_forms_of_details_and_prompts(tmp_path):
    chat = [
        {"role": "HUMAN", "prompt": "What?"},
        {"role": "BOT", "prompt": "That."},
        {"role": "HUMAN", "prompt": "Why?"},
    ]
    predictions = {"0": prediction(origin_prompt=chat), "1": prediction(1), "2": prediction(2)}
    details = {"type": "GEN", "0": {"correct": [True, False]}, "1": {"is_correct": 1}, "2": {"pred": "x"}}
    table = import_opencompass([write(tmp_path, predictions, {"accuracy": 1, "details": details})])
    np.testing.assert_array_equal(table.scores_MN, [[0.5, 1, np.nan]])
    assert table.items[0].text == "What?\n\nThat.\n\nWhy?"


def test_predictions_in_parts_and_another_chat_template(tmp_path):
    details = {"details": [{"correct": True}, {"correct": False}]}
    write(tmp_path, {"0": prediction(0)}, details, part="_0")
    write(tmp_path, {"0": prediction(1)}, details, part="_1")
    write(tmp_path, {"0": prediction(0, origin_prompt="<|user|>Q 0?"), "1": prediction(1)}, details, model="n")
    table = import_opencompass([tmp_path])
    assert [item.text for item in table.items] == ["Q 0?", "Q 1?"]
    np.testing.assert_array_equal(table.scores_MN, [[1, 0], [1, 0]])
    write(tmp_path, {"0": prediction(7), "1": prediction(1)}, details, model="n")
    with pytest.raises(SatjaxError, match="'opencompass/sums/0' is another question than before"):
        import_opencompass([tmp_path])


@pytest.mark.parametrize(
    ("predictions", "results", "words"),
    [
        ({"0": prediction()}, {"accuracy": 50}, "says of no item whether it was right"),
        ({"0": prediction()}, {"details": [{"pred": "x"}]}, "says of no item whether it was right"),
        ({}, {"details": [{"correct": True}]}, "detail '0' has no prediction in predictions/m"),
        ({"0": prediction()}, {"details": [7]}, "detail '0' has no prediction"),
        ({"0": prediction()}, {"details": [{"correct": "so"}]}, "correct is 'so', not a number"),
        ({"0": prediction()}, {"details": [{"correct": 2}]}, "score 2 of 'm' is outside"),
        ({"0": prediction(origin_prompt="")}, {"details": [{"correct": 1}]}, "has an empty text"),
        ({"0": {"label: A": {}}}, {"details": [{"correct": 1}]}, "has no origin_prompt"),
    ],
)
def test_bad_results(tmp_path, predictions, results, words):
    with pytest.raises(SatjaxError) as caught:
        import_opencompass([write(tmp_path, predictions, results)])
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["bad.toml", "a/results/m/bad.toml", "predictions/m/sums.json", "/bad.toml"])
def test_a_file_that_is_no_result_is_named_as_it_was_given(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SatjaxError, match=rf"^{name} is no results/MODEL/DATASET\.json of OpenCompass; name the working"
    ):
        import_opencompass([name])


def test_a_file_of_results_may_be_given_alone(tmp_path):
    run = write(tmp_path, {"0": prediction()}, {"details": [{"correct": True}]})
    assert import_opencompass([run / "results/m/sums.json"]).candidate_ids == ("m",)


def test_bad_files(tmp_path):
    with pytest.raises(SatjaxError, match=r"no results/\*/\*\.json in this directory"):
        import_opencompass([tmp_path])
    run = write(tmp_path, {"0": prediction()}, {"details": [{"correct": True}]})
    (run / "predictions/m/sums.json").write_text("{")
    with pytest.raises(SatjaxError, match=r"sums\.json cannot be read as results of OpenCompass"):
        import_opencompass([run])
    (run / "predictions/m/sums.json").unlink()
    with pytest.raises(SatjaxError, match=r"sums\.json cannot be read"):
        import_opencompass([run])

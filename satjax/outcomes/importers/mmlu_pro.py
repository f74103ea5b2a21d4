"""Importer of MMLU-Pro's published results: one `model_outputs_NAME_5shots.zip` (or the JSON in it) per candidate."""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.guarded import check_values
from satjax.outcomes.importers.upstream import explained, found, read_whole, zip_members
from satjax.outcomes.lettered import LETTERS, with_letters
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Item, OutcomeTable

WHAT = "MMLU-Pro results"
SAME_QUESTION = 0.6
"""Share of equal text above which two texts under one id are one question; upstream mended typing errors between its runs."""
NEEDED = ("question_id", "question", "options", "answer", "category", "src")


def import_mmlu_pro(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes of the candidates of these files on the union of their questions; a question that a file lacks is unobserved.

    A score is 1 where `pred` equals the `answer` of the same file; a prediction that upstream could not parse counts as wrong.
    Upstream corrected a few texts and answers between its runs: the item has those of the first file that holds it. Splits go by
    the text of the question (`split_of`). Raises SatjaxError naming the file for anything that is not such a result.
    """
    if not paths:
        raise SatjaxError("no MMLU-Pro results given; name at least one model_outputs_NAME_5shots.zip")
    collector = Collector()
    texts: dict[str, str] = {}
    for path in found(paths, "model_outputs_*.zip", "model_outputs_*.json"):
        name = _candidate_name(path)
        if name in collector:
            raise SatjaxError(f"{path}: candidate {name!r} stands in two files; give each candidate once")
        scores: dict[str, float] = {}
        for number, record in enumerate(_records(path)):
            item, score = _outcome(record, path, number)
            text = texts.setdefault(item.id, item.text)
            if not _same_question(text, item.text):
                raise SatjaxError(
                    f"{path}: {item.id} is another question than in an earlier file; import files of one release together"
                )
            if item.id not in scores:
                collector.add(name, item, score, f"{path} record {number}", fingerprint=item.id)
            if scores.setdefault(item.id, score) != score:
                raise SatjaxError(f"{path}: {item.id} stands twice with different results; keep one")
    return collector.table("no MMLU-Pro results given; name at least one model_outputs_NAME_5shots.zip")


def _candidate_name(path: Path) -> str:
    match = re.fullmatch(r"model_outputs_(.+?)(_\d+shots?)?\.(zip|json)", path.name)
    if not match:
        raise SatjaxError(
            f"{path}: results are expected as model_outputs_NAME_5shots.zip or .json; rename the file after its candidate"
        )
    return match[1]


def _same_question(a: str, b: str) -> bool:
    return a == b or difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() >= SAME_QUESTION


def _records(path: Path) -> list[Any]:
    def only(names: list[str]) -> list[str]:
        results = [name for name in names if name.endswith(".json") and "__MACOSX" not in name]
        if len(results) != 1:
            raise SatjaxError(f"{path}: {len(results)} JSON files in it, one is expected; download it again")
        return results

    if path.suffix == ".zip":
        ((_, text),) = zip_members(path, WHAT, only)
    else:
        text = read_whole(path, WHAT)
    with explained(path, WHAT):
        check_values(text)
        records = json.loads(text)
    if not isinstance(records, list) or not records:
        raise SatjaxError(f"{path}: a JSON list of answered questions is expected; download it again")
    return records


def _outcome(record: Any, path: Path, number: int) -> tuple[Item, float]:
    missing = [key for key in NEEDED if not isinstance(record, dict) or key not in record]
    if missing or not isinstance(record["options"], list) or len(record["options"]) > len(LETTERS):
        raise SatjaxError(
            f"{path}: record {number} lacks {', '.join(missing) or 'a list of options'}; it is no MMLU-Pro result"
        )
    question = str(record["question"]).strip()
    source, _, subject = str(record["src"]).removeprefix("ori_").partition("-")
    item = Item(
        id=f"mmlu_pro/{record['question_id']}",
        text=with_letters(question, record["options"]),
        task=f"{source.lower()}/{subject}" if subject else source.lower(),
        category=str(record["category"]),
        source="mmlu_pro",
        split=split_of(question),
        answer=str(record["answer"]),
    )
    return item, float(record.get("pred") is not None and record["pred"] == record["answer"])

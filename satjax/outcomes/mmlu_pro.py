"""Importer of MMLU-Pro's published results: one `model_outputs_NAME_5shots.zip` (or the JSON in it) per candidate."""

import difflib
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Candidate, Item, OutcomeTable

LARGEST = 256 * 2**20
"""Bytes of one unpacked result file; the published ones have under 60 MB."""
SAME_QUESTION = 0.6
"""Share of equal text above which two texts under one id are one question; upstream mended typing errors between its runs."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NEEDED = ("question_id", "question", "options", "answer", "category", "src")


def import_mmlu_pro(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes of the candidates of these files on the union of their questions; a question that a file lacks is unobserved.

    A score is 1 where `pred` equals the `answer` of the same file; a prediction that upstream could not parse counts as wrong.
    Upstream corrected a few texts and answers between its runs: the item has those of the first file that holds it. Splits go by
    the text of the question (`split_of`). Raises SatjaxError naming the file for anything that is not such a result.
    """
    if not paths:
        raise SatjaxError("no MMLU-Pro results given; name at least one model_outputs_NAME_5shots.zip")
    items: dict[str, Item] = {}
    scores: dict[str, dict[str, float]] = {}
    for path in map(Path, paths):
        name = _candidate_name(path)
        if name in scores:
            raise SatjaxError(f"{path}: candidate {name!r} stands in two files; give each candidate once")
        scores[name] = {}
        for number, record in enumerate(_records(path)):
            item, score = _outcome(record, path, number)
            if not _same_question(items.setdefault(item.id, item).text, item.text):
                raise SatjaxError(
                    f"{path}: {item.id} is another question than in an earlier file; import files of one release together"
                )
            if scores[name].setdefault(item.id, score) != score:
                raise SatjaxError(f"{path}: {item.id} stands twice with different results; keep one")
    matrix = np.array([[found.get(item, np.nan) for item in items] for found in scores.values()], np.float32)
    return OutcomeTable(
        tuple(items.values()), tuple(Candidate(name) for name in scores), matrix.reshape(len(scores), len(items))
    )


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
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = [
                    info
                    for info in archive.infolist()
                    if info.filename.endswith(".json") and "__MACOSX" not in info.filename
                ]
                if len(members) != 1:
                    raise SatjaxError(f"{path}: {len(members)} JSON files in it, one is expected; download it again")
                if members[0].file_size > LARGEST:
                    raise SatjaxError(
                        f"{path}: unpacks to {members[0].file_size:,} bytes, more than any real result; download it again"
                    )
                with archive.open(members[0]) as stream:
                    # The size in the directory of a zip is only a claim.
                    text = stream.read(LARGEST + 1)
                if len(text) > LARGEST:
                    raise SatjaxError(f"{path}: unpacks to more than {LARGEST:,} bytes; download it again")
        else:
            text = path.read_bytes()
        records = json.loads(text)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError) as error:
        raise SatjaxError(
            f"{path} cannot be read as MMLU-Pro results ({' '.join(str(error).split())[:120]}); download it again"
        ) from error
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
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, record["options"], strict=False)]
    source, _, subject = str(record["src"]).removeprefix("ori_").partition("-")
    item = Item(
        id=f"mmlu_pro/{record['question_id']}",
        text="\n".join([question, *options]),
        task=f"{source.lower()}/{subject}" if subject else source.lower(),
        category=str(record["category"]),
        source="mmlu_pro",
        split=split_of(question),
        answer=str(record["answer"]),
    )
    return item, float(record.get("pred") is not None and record["pred"] == record["answer"])

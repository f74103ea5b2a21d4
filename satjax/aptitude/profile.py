"""The capability profile `c`: a candidate's results on the aptitude test, as text and as arrays (paper section 3.1)."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from satjax.aptitude.core_tasks import AptitudeTest, read_json, texts, versioned
from satjax.errors import SatjaxError
from satjax.files import write_text
from satjax.outcomes import OutcomeTable

VERSION = 1


@dataclass(frozen=True, eq=False)
class CapabilityProfile:
    """One candidate's results: T tasks with K items each.

    `accuracy_T` float32, NaN where no item of the task was observed; `count_T` int32, observed items; `item_outcome_TK` float32,
    NaN = unobserved, items in the order of the test, or None in a summary. `aptitude_test` is the fingerprint of the test they belong to.
    `assessment` tells people how a candidate that joins later took the test, and how sure the result is (`satjax assess`, `satjax profile`); no
    ranking reads it, but only who has one can be replaced in a router, or taken out of it.
    """

    candidate: str
    aptitude_test: str
    tasks: tuple[str, ...]
    keywords: tuple[tuple[str, ...], ...]
    accuracy_T: np.ndarray
    count_T: np.ndarray
    item_outcome_TK: np.ndarray | None
    expert_notes: tuple[str, ...] = ()
    assessment: Mapping[str, Any] | None = None

    @property
    def outcomes_TK(self) -> np.ndarray:
        """`item_outcome_TK` for who cannot do without; raises SatjaxError for a summary."""
        if self.item_outcome_TK is None:
            raise SatjaxError(
                f"profile of {self.candidate!r} is a summary; this router measures by the outcome of each aptitude item: "
                "give the whole profile, as `satjax profile` writes it"
            )
        return self.item_outcome_TK

    def summary(self) -> "CapabilityProfile":
        """The same without the outcome of each item, for those who may not pass on single outcomes: all that a router of `tasks` or `text` profiles reads."""
        return replace(self, item_outcome_TK=None)

    def write(self, path: Path) -> None:
        """As JSON, one task after the other; unobserved outcomes are null."""
        tasks: list[dict[str, Any]] = [
            {"task": name, "keywords": list(words), "accuracy": _null(accuracy), "count": int(count)}
            for name, words, accuracy, count in zip(
                self.tasks, self.keywords, self.accuracy_T, self.count_T, strict=True
            )
        ]
        if self.item_outcome_TK is not None:
            for task, outcomes in zip(tasks, self.item_outcome_TK, strict=True):
                task["item_outcomes"] = [_null(outcome) for outcome in outcomes]
        head: dict[str, Any] = {"version": VERSION, "candidate": self.candidate, "aptitude_test": self.aptitude_test}
        if self.assessment is not None:
            head["assessment"] = dict(self.assessment)
        notes = list(self.expert_notes)
        write_text(path, json.dumps({**head, "expert_notes": notes, "tasks": tasks}, indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> "CapabilityProfile":
        """Reads what `write` wrote; raises SatjaxError naming the file where that cannot be done."""
        return cls.from_value(read_json(path, "capability profile", VERSION), str(path))

    @classmethod
    def from_value(cls, value: Any, where: str) -> "CapabilityProfile":
        """As `read`, of what the file holds as JSON; raises SatjaxError that begins with `where` for what is no profile."""
        value = versioned(value, where, "capability profile", VERSION)
        try:
            tasks = value["tasks"]
            candidate, fingerprint = texts([value["candidate"], value["aptitude_test"]])
            names = texts([task["task"] for task in tasks])
            keywords, notes = tuple(texts(task["keywords"]) for task in tasks), texts(value["expert_notes"])
            assessment = value.get("assessment")
            if not isinstance(assessment, dict | None):
                raise ValueError("its assessment is no object")
            if not any("item_outcomes" in task for task in tasks):
                accuracy, count = _summary(tasks)
                return cls(candidate, fingerprint, names, keywords, accuracy, count, None, notes, assessment)
            outcomes = np.array([[_nan(x) for x in task["item_outcomes"]] for task in tasks], np.float32)
            if outcomes.ndim != 2 or not outcomes.size:
                raise ValueError("tasks without items, or of different length")
            return cls(
                candidate, fingerprint, names, keywords, *accuracy_and_count(outcomes), outcomes, notes, assessment
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SatjaxError(
                f"{where} is no capability profile ({error}); make it again with `satjax profile`"
            ) from error


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nan(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"outcome {value!r:.60} is no number")
    if not 0 <= value <= 1:
        raise ValueError(f"outcome {value!r:.60} is outside [0, 1]; null is unobserved")
    return float(value)


def _summary(tasks: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    accuracy_T = np.array([_nan(task["accuracy"]) for task in tasks], np.float32)
    counts = [task["count"] for task in tasks]
    if not tasks:
        raise ValueError("tasks without items, or of different length")
    if not all(isinstance(count, int) and 0 <= count < 2**31 for count in counts):
        raise ValueError("a task without a count, or one that is no number of items")
    count_T = np.array(counts, np.int32)
    if not np.array_equal(np.isnan(accuracy_T), count_T == 0):
        raise ValueError("a task has an accuracy without items, or items without an accuracy")
    return accuracy_T, count_T


def accuracy_and_count(outcome_XK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the last axis of what was observed, float32, NaN where nothing was, and how much that was, int32."""
    observed = ~np.isnan(outcome_XK)
    count = observed.sum(axis=-1).astype(np.int32)
    total = np.where(observed, outcome_XK, 0.0).sum(axis=-1, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32), count


def profile_from_outcomes(table: OutcomeTable, test: AptitudeTest, candidate_id: str) -> CapabilityProfile:
    """A candidate's profile from the outcomes of a table that holds items of the test.

    Raises SatjaxError where the table does not know the candidate, or has none of its outcomes on the test.
    """
    (outcomes,) = _outcomes(table, test, [candidate_id])
    return profile_from_scores(outcomes, test, candidate_id)


def known_profiles(
    table: OutcomeTable, test: AptitudeTest, candidate_ids: Sequence[str]
) -> tuple[CapabilityProfile, ...]:
    """Profiles of those of the candidates that have outcomes on the test in this table."""
    profiles = []
    for name, outcomes in zip(candidate_ids, _outcomes(table, test, candidate_ids), strict=True):
        with contextlib.suppress(SatjaxError):
            profiles.append(profile_from_scores(outcomes, test, name))
    return tuple(profiles)


def _outcomes(table: OutcomeTable, test: AptitudeTest, candidate_ids: Sequence[str]) -> list[dict[str, float]]:
    """Each candidate's outcomes on the items of the test, by their ids; a table may have many more items."""
    asked = test.item_ids
    column = {item.id: n for n, item in enumerate(table.items) if item.id in asked}
    scores_MI = table.select_candidates(candidate_ids).scores_MN[:, list(column.values())]
    return [dict(zip(column, scores_I, strict=True)) for scores_I in scores_MI.tolist()]


def profile_from_scores(score_of_item: Mapping[str, float], test: AptitudeTest, candidate_id: str) -> CapabilityProfile:
    """A candidate's profile from its scores in [0, 1] by item id; NaN, or no entry, is unobserved.

    Raises SatjaxError where no item of the test has a score, or one has another score than that.
    """
    for item in (item for task in test.tasks for item in task.item_ids):
        score = score_of_item.get(item, np.nan)
        if score < 0 or score > 1:
            raise SatjaxError(
                f"candidate {candidate_id!r} has score {score:g} on aptitude item {item!r}, which is outside [0, 1]; rescale the scores"
            )
    outcomes = [[score_of_item.get(item, np.nan) for item in task.item_ids] for task in test.tasks]
    outcome_TK = np.array(outcomes, np.float32)
    if np.isnan(outcome_TK).all():
        raise SatjaxError(
            f"candidate {candidate_id!r} has no outcome on any of the {outcome_TK.size} aptitude items in this table"
        )
    names, keywords = tuple(task.name for task in test.tasks), tuple(task.keywords for task in test.tasks)
    accuracy, count = accuracy_and_count(outcome_TK)
    return CapabilityProfile(candidate_id, test.fingerprint, names, keywords, accuracy, count, outcome_TK)


def check_same_test(profile: CapabilityProfile, test: AptitudeTest) -> None:
    """Raises SatjaxError where a profile is the result of another aptitude test, or its tasks stand in another order."""
    fits = len(profile.tasks) == test.num_tasks and profile.count_T.max(initial=0) <= test.shots
    if profile.item_outcome_TK is not None:
        fits &= profile.item_outcome_TK.shape == (test.num_tasks, test.shots)
    if profile.aptitude_test != test.fingerprint or not fits:
        raise SatjaxError(
            f"profile of {profile.candidate!r} belongs to aptitude test {profile.aptitude_test[:12]}…, the router's is {test.fingerprint[:12]}…; "
            "make it again with this router's aptitude_test.json"
        )
    for number, (name, task) in enumerate(zip(profile.tasks, test.tasks, strict=True), 1):
        if name != task.name:
            raise SatjaxError(
                f"profile of {profile.candidate!r} has task {number} named {name!r}, the aptitude test has {task.name!r} there; "
                "give its tasks in its order"
            )


def render_sentences(profile: CapabilityProfile, order: Sequence[int] | np.ndarray | None = None) -> list[str]:
    """One clause per task in the given order (a permutation of `range(T)`), tasks without outcomes left out, expert notes last."""
    clauses = []
    for t in range(len(profile.tasks)) if order is None else order:
        if profile.count_T[t]:
            name = profile.tasks[t].rsplit("/", 1)[-1].replace("_", " ")
            percent = round(100 * float(profile.accuracy_T[t]))
            words = ", ".join(profile.keywords[t])
            clauses.append(f"The model achieves accuracy {percent}% on the task of '{name}', with keywords {words}.")
    return [*clauses, *profile.expert_notes]


def render(profile: CapabilityProfile) -> str:
    """The profile as text, the paper's form."""
    return " ".join(render_sentences(profile))

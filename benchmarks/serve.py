"""python benchmarks/serve.py --out benchmarks/results/serve.json

What `satjax serve` costs and carries, with the router in the package, on this machine; every ratio is of things that took turns in one run.

Idle: a bare `Router.rank` against the same instruction ranked by the server with nobody else there. Throughput: 64 clients that ask without pause,
of a server that scores one instruction at a time and of one with micro-batches, and a loop of bare `Router.rank`, once as `Router.load()` gives it
and once with the server's short buckets; short instructions and long ones. Load: 500 clients for a minute, in streams and whole, before backends of
which one is dead, one fails, one never answers and one is slow; a fifth of the requests is routed, the rest names a candidate that works. Every
request bears a number, which the backend says again: a wrong one is a mixed-up response, and anything but a complete answer is a lost one.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import platform
import random
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from satjax.serving.server import bind, uvicorn_config

COMMAND = "python benchmarks/serve.py --out benchmarks/results/serve.json"
CLIENTS, LOAD_CLIENTS, ROUTED_SHARE = 64, 500, 0.2
FAILS = {"gemini-1.5-pro-002": "dead", "Meta-Llama-3_1-70B-Instruct": "failing", "DeepSeek-Coder-V2": "hanging"}
WORKS = {"jamba-1.5-large": "slow", "Meta-Llama-3-70B": "quick", "Meta-Llama-3_1-8B-Instruct": "quick"}
SENTENCE = (
    "A vessel of fixed volume holds an ideal gas whose temperature is raised slowly while its pressure is noted. "
)


def instruction(number: int, long: bool = False) -> str:
    return f"{SENTENCE * 6 if long else ''}Question {number}: what is {number} plus 17?"


async def backend(scope: Any, receive: Any, send: Any) -> None:
    """Says the last message again: at once, after a second, half of the time, or never."""
    if scope["type"] != "http":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    asked = json.loads(body)
    kind, text = asked["model"], asked["messages"][-1]["content"]
    if kind == "hanging":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await asyncio.sleep(1.0 if kind == "slow" else 0.0)
    status = 500 if kind == "failing" and random.random() < 0.5 else 200
    head = b"text/event-stream" if asked.get("stream") and status == 200 else b"application/json"
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", head)]})
    if status != 200 or not asked.get("stream"):
        said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})
        return
    for word in text.split(" "):
        event = {"choices": [{"index": 0, "delta": {"content": word + " "}}]}
        await send({"type": "http.response.body", "body": f"data: {json.dumps(event)}\n\n".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn_config(app, 5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def write_zoo(directory: Path, address: str, serve: str) -> Path:
    lines = ["[serve]", serve]
    for name, kind in (FAILS | WORKS).items():
        url = "http://127.0.0.1:9/v1" if kind == "dead" else f"{address}/v1"
        lines += [f'[candidates."{name}"]', f'base_url = "{url}"', f'model = "{kind}"']
        lines += ["usd_per_million_input_tokens = 1.0", "usd_per_million_output_tokens = 1.0"]
        lines += ["context_tokens = 100_000", "tools = true"]
    path = directory / "zoo.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def rank(client: httpx.Client, address: str, text: str) -> tuple[float, float]:
    """Milliseconds that the server routed, and that the client waited."""
    started = time.perf_counter()
    found = client.post(f"{address}/v1/rank", json={"instruction": text}).raise_for_status().json()
    return found["routing_ms"], 1000 * (time.perf_counter() - started)


def bare(router: Any, text: str) -> float:
    started = time.perf_counter()
    router.rank(text)
    return 1000 * (time.perf_counter() - started)


def idle(router: Any, plain: Any, address: str, rounds: int) -> dict[str, Any]:
    """Medians of turns: bare, served, bare as shipped."""
    found: dict[str, list[float]] = {"bare": [], "routing": [], "whole_request": [], "bare_as_shipped": []}
    with httpx.Client(timeout=60) as client:
        for number in range(rounds):
            text = instruction(number)
            routing, whole = rank(client, address, text)
            found["routing"].append(routing)
            found["whole_request"].append(whole)
            found["bare"].append(bare(router, text))
            found["bare_as_shipped"].append(bare(plain, text))
    medians = {f"{name}_ms": round(statistics.median(values), 2) for name, values in found.items()}
    return {
        "rounds": rounds,
        **medians,
        "routing_to_bare": round(medians["routing_ms"] / medians["bare_ms"], 3),
        "whole_request_to_bare": round(medians["whole_request_ms"] / medians["bare_ms"], 3),
    }


def asked_at_once(address: str, seconds: float, long: bool) -> float:
    """Instructions per second that many clients get ranked."""
    done = 0

    async def ask(client: httpx.AsyncClient, until: float, first: int) -> None:
        nonlocal done
        number = first
        while time.perf_counter() < until:
            body = {"instruction": instruction(number, long)}
            (await client.post(f"{address}/v1/rank", json=body)).raise_for_status()
            number, done = number + CLIENTS, done + 1

    async def run() -> float:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=300, limits=limits) as client:
            started = time.perf_counter()
            await asyncio.gather(*(ask(client, started + seconds, first) for first in range(CLIENTS)))
            return time.perf_counter() - started

    took = asyncio.run(run())
    return done / took


def in_a_loop(router: Any, seconds: float, long: bool) -> float:
    started, done = time.perf_counter(), 0
    while time.perf_counter() < started + seconds:
        router.rank(instruction(done, long))
        done += 1
    return done / (time.perf_counter() - started)


def throughput(router: Any, plain: Any, one: str, many: str, seconds: float, turns: int, long: bool) -> dict[str, Any]:
    """Rates by the clock, which others on the machine disturb, and CPU time for an instruction, which they disturb less."""
    runs: dict[str, Callable[[], float]] = {
        "micro_batched": lambda: asked_at_once(many, seconds, long),
        "served_one_at_a_time": lambda: asked_at_once(one, seconds, long),
        "rank": lambda: in_a_loop(router, seconds, long),
        "rank_as_shipped": lambda: in_a_loop(plain, seconds, long),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    cpu_ms: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            began, used = time.perf_counter(), time.process_time()
            rates[name].append(run())
            done = rates[name][-1] * (time.perf_counter() - began)
            cpu_ms[name].append(1000 * (time.process_time() - used) / done)
    rate = {name: statistics.mean(values) for name, values in rates.items()}
    cpu = {name: statistics.mean(values) for name, values in cpu_ms.items()}
    others = [name for name in runs if name != "micro_batched"]
    return {
        "tokens": int(router._scorer.writer.encode([instruction(999, long)]).length[0]),
        "instructions_per_second": {name: round(value, 2) for name, value in rate.items()},
        "cpu_ms_per_instruction": {name: round(value, 1) for name, value in cpu.items()},
        "turns": {name: [round(value, 2) for value in values] for name, values in rates.items()},
        "micro_batched_to": {name: round(rate["micro_batched"] / rate[name], 2) for name in others},
        "cpu_time_to_that_of_micro_batched": {name: round(cpu[name] / cpu["micro_batched"], 2) for name in others},
    }


def measure_routing(directory: Path, rounds: int, seconds: float, turns: int) -> dict[str, Any]:
    """Idle and throughput, with server and client in this process."""
    from satjax.policy.zoo_file import read_zoo_file
    from satjax.router import SERVING_SIZES, Router
    from satjax.serving.app import create_app
    from satjax.serving.keys import KeyRing
    from satjax.serving.service import open_service

    router, plain = Router.load(serving=True), Router.load()
    for long in (False, True):
        plain.rank(instruction(0, long))
        for size in SERVING_SIZES:
            router.probability([instruction(i, long) for i in range(size)])
    router.warm_up = lambda most: iter(())  # type: ignore[method-assign]
    with contextlib.ExitStack() as stack:
        address = []
        for serve in ("max_batch = 1", ""):
            path = write_zoo(directory, "http://127.0.0.1:9", serve)
            service = open_service(router, read_zoo_file(path), path)
            address.append(stack.enter_context(running(create_app(service, KeyRing(), KeyRing()))))
        one, many = address
        return {
            "idle": idle(router, plain, many, rounds),
            "throughput": {
                name: throughput(router, plain, one, many, seconds, turns, long)
                for name, long in (("short", False), ("long", True))
            },
        }


def resident_mib(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    return round(int(fields["VmRSS"].split()[0]) / 1024, 1)


async def load(address: str, pid: int, seconds: float) -> dict[str, Any]:
    """500 clients; what became of every request, and the server's memory as it goes."""
    ended: Counter[str] = Counter()
    waited: dict[str, list[float]] = {"routed": [], "named": []}
    memory: list[float] = []
    numbers = iter(range(10**9))

    async def once(client: httpx.AsyncClient, number: int, rng: random.Random) -> str:
        routed, stream = rng.random() < ROUTED_SHARE, rng.random() < 0.5
        model = "satjax" if routed else rng.choice(list(WORKS))
        text, started = instruction(number), time.perf_counter()
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        try:
            response = await client.post(f"{address}/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            return f"lost: {type(error).__name__}"
        if response.status_code != 200:
            return f"lost: status {response.status_code}"
        if stream:
            if not response.text.endswith("data: [DONE]\n\n"):
                return "lost: half a stream"
            events = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: {")]
            said = "".join(event["choices"][0]["delta"]["content"] for event in events).strip()
        else:
            said = response.json()["choices"][0]["message"]["content"]
        waited["routed" if routed else "named"].append(time.perf_counter() - started)
        return "right" if said == text else "mixed up"

    async def ask(until: float, seed: int) -> None:
        rng = random.Random(seed)
        async with httpx.AsyncClient(timeout=300, verify=context, trust_env=False) as client:
            while time.perf_counter() < until:
                ended[await once(client, next(numbers), rng)] += 1

    async def watch() -> None:
        while True:
            memory.append(resident_mib(pid))
            await asyncio.sleep(1)

    context = ssl.create_default_context()
    # Buffers and pools grow to their size first, so that what grows later is a leak.
    until = time.perf_counter() + seconds / 6
    await asyncio.gather(*(ask(until, seed) for seed in range(LOAD_CLIENTS)))
    ended.clear()
    for values in waited.values():
        values.clear()
    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    await asyncio.gather(*(ask(started + seconds, 1000 + seed) for seed in range(LOAD_CLIENTS)))
    took = time.perf_counter() - started
    watching.cancel()
    metrics = httpx.get(f"{address}/metrics").text
    attempts = [line for line in metrics.splitlines() if line.startswith("satjax_attempts_total")]
    return {
        "clients": LOAD_CLIENTS,
        "seconds": round(took, 1),
        "requests": ended.total(),
        "ended": dict(ended),
        "median_seconds": {name: round(statistics.median(values), 2) for name, values in waited.items() if values},
        "server_mib_before": memory[0],
        "server_mib_after": memory[-1],
        "server_mib_most": max(memory),
        "attempts": {line.split("{")[1].split("}")[0]: int(float(line.split()[-1])) for line in attempts},
    }


def measure_load(directory: Path, seconds: float, warm_seconds: float) -> dict[str, Any]:
    with running(backend) as address:
        path = write_zoo(
            directory, address, "answer_timeout_seconds = 15.0\nfirst_byte_timeout_seconds = 15.0\nmax_attempts = 6"
        )
        code = "from satjax.cli import main; raise SystemExit(main())"
        command = [sys.executable, "-c", code, "serve", "--zoo", str(path), "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            serving = process.stderr.readline().split()[-1]
            threading.Thread(target=process.stderr.read, daemon=True).start()
            until = time.monotonic() + warm_seconds
            while not (warm := httpx.get(f"{serving}/healthz", timeout=60).json()["warm"]) and time.monotonic() < until:
                time.sleep(1)
            found = asyncio.run(load(serving, process.pid, seconds))
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            return {"every_program_compiled_before": warm, **found, "exit_code": process.returncode}
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=40, help="of the idle comparison")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each turn of throughput")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--load-seconds", type=float, default=60.0)
    parser.add_argument(
        "--warm-seconds", type=float, default=600.0, help="the longest wait for every program to be compiled"
    )
    parser.add_argument("--note", default="", help="what else the machine did meanwhile, for the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure_routing(Path(directory), options.rounds, options.seconds, options.turns)
        print(json.dumps(figures, indent=1), flush=True)
        figures["load"] = measure_load(Path(directory), options.load_seconds, options.warm_seconds)
    show(figures)
    if options.out:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "platform": "cpu"}
        options_used = {key: value for key, value in vars(options).items() if key not in ("out", "note")}
        head = {
            "date": datetime.date.today().isoformat(),
            "command": COMMAND,
            "options": options_used,
            "note": options.note,
        }
        report = {**head, "machine": machine, **figures}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def show(figures: dict[str, Any]) -> None:
    idle, load = figures["idle"], figures["load"]
    rows = [("routing to a bare rank, idle, p50", f"{idle['routing_to_bare']:.2f} x", "at most 1.3 x")]
    for found in figures["throughput"].values():
        label = f"{found['tokens']} tokens: micro-batched to"
        for name, said, bar in (
            ("served_one_at_a_time", "served one at a time", "at least 4 x"),
            ("rank_as_shipped", "Router.rank as shipped", ""),
        ):
            by_cpu = found["cpu_time_to_that_of_micro_batched"][name]
            rows.append((f"{label} {said}", f"{found['micro_batched_to'][name]:.2f} x (CPU time {by_cpu:.2f} x)", bar))
    lost = sum(count for end, count in load["ended"].items() if end.startswith("lost"))
    rows += [
        (f"{load['clients']} clients, {load['seconds']:.0f} s: requests", f"{load['requests']}", ""),
        ("lost", f"{lost}", "0"),
        ("mixed up", f"{load['ended'].get('mixed up', 0)}", "0"),
        ("server's memory, MiB", f"{load['server_mib_before']} to {load['server_mib_after']}", "flat"),
    ]
    for row in rows:
        print("{:<56}{:>28}   {}".format(*row))


if __name__ == "__main__":
    main()

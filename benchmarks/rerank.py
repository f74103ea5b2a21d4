"""python benchmarks/rerank.py --outcomes DIR/routerbench --router runs/sources/routerbench-16-*/router --out benchmarks/results/rerank_routerbench.json

Routers, the baselines and the re-ranking of actual responses (`satjax.evaluation.baselines.rerank`) on the same test instructions of RouterBench,
as `satjax bench` compares them: every method reads the prompt as it is. Responses that are stored as upstream has them, the Python
form of a list, are read as their text. The routers are seeds of one recipe, such as `benchmarks/other_sources.py --only routerbench` leaves
in its workdir.
"""

import argparse
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from real_run import git, machine
from rich.console import Console

from satjax.config import EncoderWeights
from satjax.evaluation.bench import bench
from satjax.outcomes import open_outcomes, read_responses
from satjax.outcomes.importers.routerbench import message_text
from satjax.render.evaluation import bench_table
from satjax.render.progress import steps
from satjax.router import Router
from satjax.weights.fetch import resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--router", required=True, nargs="+", type=Path)
    parser.add_argument("--encoder", default=EncoderWeights().weights, help="base weights of a text encoder")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    table = open_outcomes(options.outcomes)
    responses = read_responses(options.outcomes, table)
    if responses is None:
        sys.exit(f"{options.outcomes} has no responses.parquet")
    with steps() as on_progress:
        figures = bench(
            (Router.load(directory, keep_features=True) for directory in options.router),
            table,
            encoder=resolve(options.encoder),
            responses=replace(responses, texts=tuple(map(message_text, responses.texts))),
            on_progress=on_progress,
        )
    routers = " ".join(map(str, options.router))
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(),
        "command": f"python benchmarks/rerank.py --outcomes DIR --router {routers} --encoder {options.encoder} --out {options.out}",
        "figures": figures,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    bench_table(figures)
    Console().print(f"record: {options.out}")


if __name__ == "__main__":
    main()

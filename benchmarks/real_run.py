"""python benchmarks/real_run.py --outcomes DIR --workdir runs/first --out benchmarks/results/NAME.json

Trains, evaluates and ranks as a user would, and records commands, commit, machine, wall times and figures. Whatever follows a `--`
is passed to `satjax train`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, Any]:
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpus[0].split(":")[1].strip() if cpus else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "platforms": os.environ.get("JAX_PLATFORMS", "default"),
    }


def timed(command: list[str]) -> tuple[float, str]:
    start = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return round(time.monotonic() - start, 1), result.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/smollm2.py")
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("train_flags", nargs="*")
    options = parser.parse_args()
    router, report = str(options.workdir / "router"), options.workdir / "report"
    satjax = str(Path(sys.executable).with_name("satjax"))
    commands = {
        "train": [
            *("train", "--config", options.config, f"--config.data.outcomes={options.outcomes}"),
            *("--workdir", str(options.workdir), *options.train_flags),
        ],
        "evaluate": ["evaluate", "--router", router, "--outcomes", options.outcomes, "--out", str(report)],
        "rank": [
            "rank",
            "--router",
            router,
            "--top",
            "3",
            "--json",
            "Find all c such that Z_3[x]/(x^2 + c) is a field.",
        ],
    }
    record: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(),
        "commands": {verb: " ".join(["satjax", *arguments]) for verb, arguments in commands.items()},
        "wall_seconds": {},
    }
    printed = {}
    for verb, arguments in commands.items():
        record["wall_seconds"][verb], printed[verb] = timed([satjax, *arguments])
    record["figures"] = json.loads((report / "report.json").read_text(encoding="utf-8"))
    record["ranking"] = json.loads(printed["rank"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Console().print(f"record: {options.out}")


if __name__ == "__main__":
    main()

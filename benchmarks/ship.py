"""python benchmarks/ship.py --name default --router runs/first/router --report runs/first/bench/report.json

Makes `satjax/pretrained/NAME` of a trained router: profiles without the outcomes of single items, no tokenizer (it comes with the base
weights), and a card with the figures that `satjax bench` measured of it.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from satjax.checkpoint import load_arrays
from satjax.export.directory import RouterFiles, read_router, write_router
from satjax.export.model_card import facts
from satjax.pretrained import HERE

MEASURES = {
    "auroc_pooled": "AUROC of P(handled), pooled",
    "auroc_per_candidate": "AUROC, mean over candidates",
    "auroc_within_instruction": "AUROC, mean over instructions",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
RECIPES = {"default": "configs/smollm2.py", "large": "configs/qwen25_coder.py"}
MODELS = {"default": "SmolLM2-135M-Instruct, Q4_1", "large": "Qwen2.5-Coder-1.5B-Instruct, Q4_K_M"}
LOADS = {"default": "", "large": '"large"'}
CALLS = {"default": 'satjax rank "…"', "large": 'satjax rank --router large "…"'}
CARD = """# The {name} router of satjax

Ranks {num_candidates} candidate LLMs for an instruction by the probability that each will answer it correctly, without running any of them.
`{call}` uses it.

## What it is

| | |
|---|---|
| LLM, frozen | {model} (`{llm}`), layers 1 to {depth}, Apache-2.0 (sha256 `{llm_sha}`) |
| ability head | rank {rank}; reads the mean state after layers {mean_layers}, the last token's after {last_layers} |
| trained on | MMLU-Pro results of {num_candidates} public models (TIGER-AI-Lab/MMLU-Pro `eval_results`, Apache-2.0), training split |
| recipe | `{recipe}`, seed {seed} |
| candidates | {profiles} |
| aptitude test | {num_tasks} tasks x {shots} items of MMLU-Pro, `{fingerprint}` |
| calibration | {calibration} |

## Figures

{instructions} test instructions, {num_candidates} candidates. The figures are of this router, which is seed {seed}, and differ a little from means over seeds. In brackets
is the 95 % interval over instructions. They were made by `satjax bench --router {name} --outcomes DIR --zoos configs/zoos.toml --out REPORT`, with DIR
a table made by `satjax import mmlu-pro`; `report.html` in REPORT also has the baselines.

| | |
|---|---|
{correctness}

In the next table "router" is the share of instructions that the chosen candidate got right, "best single candidate" that of asking one
candidate everything, and "oracle" that of choosing a right one wherever there is one. The zoos are small (open candidates below 10B), small_mixed
(the five best of these and three weak ones), middle_mixed (small, and those of 10B to 60B), larger_mixed (all open ones), high (the three best
open ones of 60B and more) and all.

| zoo | router, % | best single candidate, % | gain, points | oracle, % |
|---|---|---|---|---|
{routing}

## Use

```python
from satjax import Router

router = Router.load({load})
print(router.rank("What is 17 percent of 240?", top=3))
```

## Intended use

Choosing among these candidates, or new ones that took the same aptitude test, for questions with a right answer: knowledge,
mathematics, science, law, as in MMLU-Pro. Another candidate joins with its profile, and nothing is trained again: `router.add("profile.json")`.

## Limits

- It was trained on multiple-choice questions with their options. For open requests, chat or code its probabilities are guesses; trust the order
  more than the numbers, and train on outcomes of your own where you have them.
- Most of what it knows of a candidate is how strong it is and in which subjects; which of two equals answers a given question right it can
  hardly tell.
- Results are of the models' versions and prompts of 2024; a newer version of a candidate is another candidate.
- The base LLM is newer than MMLU-Pro and may have met its questions in pretraining; whether it did is not known.
- English. Instructions beyond {max_tokens} tokens lose their middle.
- The profiles in this directory hold accuracies per task, not the outcomes of single items; the abilities of its own candidates are in
  `abilities.json`. A new candidate needs a profile with the outcome of every item that it answered, as `satjax assess` and `satjax profile` write it.

Candidates: {candidates}.
"""


def card(name: str, files: RouterFiles, report: dict[str, Any]) -> str:
    """The model card; figures are the first seed's, of which the router is."""
    method, config = report["methods"]["router"], files.config
    correctness = [
        f"| {label} | {found['mean']:.4f} [{found['low']:.4f}, {found['high']:.4f}] |"
        for label, found in ((label, method["correctness"][name]) for name, label in MEASURES.items())
    ]
    routing = []
    for zoo, found in method["routing"].items():
        gain = found["gain_interval"]
        routing.append(
            f"| {zoo} ({len(found['candidates'])}) | {100 * found['router']:.2f} | {100 * found['best_single']:.2f} | "
            f"{100 * gain['mean']:+.2f} [{100 * gain['low']:+.2f}, {100 * gain['high']:+.2f}] | {100 * found['oracle']:.2f} |"
        )
    return CARD.format(
        **facts(files),
        depth=config.ability_head.depth,
        rank=config.ability_head.rank,
        mean_layers=" and ".join(map(str, config.ability_head.mean_layers)),
        last_layers=" and ".join(map(str, config.ability_head.last_layers)),
        name=name,
        model=MODELS[name],
        recipe=RECIPES[name],
        call=CALLS[name],
        load=LOADS[name],
        seed=files.order_seed,
        instructions=report["instructions"],
        correctness="\n".join(correctness),
        routing="\n".join(routing),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, choices=RECIPES)
    parser.add_argument("--router", required=True, type=Path)
    parser.add_argument("--report", required=True, type=Path)
    options = parser.parse_args()
    files = read_router(options.router)
    report = json.loads(options.report.read_text(encoding="utf-8"))
    params = load_arrays(options.router / "params", files.learned)
    short = dataclasses.replace(files, profiles=tuple(profile.summary() for profile in files.profiles))
    target = HERE / options.name
    write_router(target, short, params, None, card(options.name, files, report))
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    Console().print(f"{target}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()

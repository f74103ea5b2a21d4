"""The README.md of an exported router: what it is, what it was trained on, what it is not for."""

import re
from collections.abc import Collection
from typing import Any

from satjax.calibration import Calibration
from satjax.config import DataConfig, RouterConfig, TrainConfig
from satjax.export.directory import RouterFiles
from satjax.outcomes import OutcomeTable

CARD = """# A satjax router

Ranks {num_candidates} candidate LLMs for an instruction by the probability that each will handle it, without running any of them.

| | |
|---|---|
| LLM | `{llm}` (sha256 `{llm_sha}`), {reading} |
| candidates | {profiles} |
| layout, head | `{layout}`, `{head}` |
| trained on | {num_instructions} instructions of {sources}, {num_trained} candidates, {steps} steps |
{held_out}| aptitude test | {num_tasks} tasks x {shots} items, `{fingerprint}` |
| calibration | {calibration} |

## Use

```python
from satjax import Router

router = Router.load("{name}")
print(router.rank("What is the capital of Peru?", top=3))
```

Measure it on outcomes of your own before you rely on it: `satjax evaluate --router {name} --outcomes DIR --out DIR`.

## Limits

- It judges an instruction by its text alone, and a candidate by outcomes: those that it was trained on, or, for one that joins later, its aptitude test.
- Probabilities are calibrated for instructions like those it was trained on ({sources}); elsewhere trust the order more than the numbers.
- Long instructions lose their middle beyond {max_tokens} tokens.
{synthetic}
Candidates: {candidates}.
"""

SYNTHETIC = "- **The zoo is synthetic**: instructions are generated and abilities planted. It shows that the machinery works, nothing about real models.\n"


def model_card(config: TrainConfig, files: RouterFiles, train: OutcomeTable) -> str:
    """Markdown of the card."""
    router = files.config
    sources = sorted({item.source for item in train.items})
    return CARD.format(
        **facts(files),
        reading=_reading(router, files.learned),
        layout=router.prompt.layout,
        head=router.head,
        num_instructions=len(train.items),
        sources=", ".join(f"`{source}`" for source in sources),
        num_trained=len(train.candidates),
        steps=config.total_steps,
        held_out=_held_out(config.data),
        name="ROUTER_DIR",
        synthetic=SYNTHETIC if "synthetic" in sources else "",
    )


def calibration_fact(calibration: Calibration, on: str) -> str:
    """What a card says of a calibration; `on` names the instructions that it was fitted on, in the plural."""
    if not calibration.fitted_on:
        return f"none was fitted: {_platt(calibration)}"
    of = "isotonic in the score" if calibration.knots else _platt(calibration)
    return f"{of}, fitted on {calibration.fitted_on} {on}"


def _platt(calibration: Calibration) -> str:
    sign = "-" if calibration.offset < 0 else "+"
    return f"probability = sigmoid({calibration.scale:.4g} x score {sign} {abs(calibration.offset):.4g})"


def with_fact(card: str, name: str, value: str) -> str:
    """The card with another value in the row of that name, where its table has one."""
    return re.sub(rf"^\| {re.escape(name)} \|.*$", lambda _: f"| {name} | {value} |", card, count=1, flags=re.MULTILINE)


def with_section(card: str, title: str, body: str) -> str:
    """The card with a section of that title at its end, in place of one that it may have; without it where the body is empty."""
    sections = re.split(r"\n(?=## )", card.rstrip("\n"))
    kept = [section for section in sections if section.partition("\n")[0] != f"## {title}"]
    if not body:
        return "\n".join(kept).rstrip("\n") + "\n"
    return "\n".join([*kept, "", f"## {title}", "", body, ""])


def facts(files: RouterFiles) -> dict[str, Any]:
    """What every card says of a router, by the name that its template gives it."""
    router, calibration = files.config, files.calibration
    return {
        "num_candidates": len(files.profiles),
        "llm": router.llm.weights,
        "llm_sha": files.base_sha256["llm"][:16],
        "profiles": _profiles(files),
        "num_tasks": files.test.num_tasks,
        "shots": files.test.shots,
        "fingerprint": files.test.fingerprint[:16],
        "calibration": calibration_fact(calibration, "validation instructions"),
        "max_tokens": router.prompt.max_tokens,
        "candidates": ", ".join(code(profile.candidate) for profile in files.profiles),
    }


def code(text: str) -> str:
    """Markdown's code span of one line: fenced by more backticks than stand together in it."""
    runs = [len(run) for run in re.findall("`+", text)]
    if not runs:
        return f"`{text}`"
    fence = "`" * (max(runs) + 1)
    return f"{fence} {text} {fence}"


def _profiles(files: RouterFiles) -> str:
    """How candidates enter."""
    encoder = files.config.profile_encoder
    if encoder.kind == "items":
        return "abilities, measured by the outcomes of the aptitude test's items; those that it was trained on, as training found them"
    weights = f"`{files.config.encoder.weights}` (sha256 `{files.base_sha256['encoder'][:16]}`)"
    return f"`{encoder.kind}` profiles, read by {weights}, as {encoder.soft_tokens} soft tokens each"


def _held_out(data: DataConfig) -> str:
    """The row of what the table of outcomes has and training never saw, by which a router can be measured; empty where there is nothing."""
    names = {"candidates": data.held_out_candidates, "categories": data.held_out_categories}
    told = [f"{what} {', '.join(map(code, some))}" for what, some in names.items() if some]
    return f"| held out of training | {'; '.join(told)} |\n" if told else ""


def _reading(router: RouterConfig, learned: Collection[str]) -> str:
    """How the LLM is made to read, by the parameters that training made."""
    head = f"ability head of rank {router.ability_head.rank}"
    whole = any(path.startswith("llm/") and "/lora_" not in path for path in learned)
    adapted = any("/lora_" in path for path in learned)
    tuned = "trained" if whole else f"LoRA rank {router.llm.lora_rank}" if adapted else "frozen"
    if router.head == "none":
        return f"{tuned}, up to layer {router.ability_head.depth}, under an {head}"
    reading = f"{tuned}, candidates join at layer {router.llm.join_layer}"
    return f"{reading}, beside an {head}" if router.ability_head.rank else reading

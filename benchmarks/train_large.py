"""python benchmarks/train_large.py --out benchmarks/results/train_large.json

What a training step of a 3.8B-shaped LLM with random weights costs on one accelerator, in our layout with 25 candidates: full fine-tuning and LoRA,
each in a part of its own, with as many instructions as memory takes. Shares are of the measured rate of products, nothing computed again counted.
"""

import gc
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".94")

sys.path.insert(0, str(Path(__file__).parent))
from profiling import profile
from steps import Step, flops, large_step, summary
from timing import Report, arguments, medians, memory, on_gpu, product_rates

ROOMY = 100e9
"""Bytes of a device from which full fine-tuning, 16 for each parameter, leaves room for activations that are kept."""


def main() -> None:
    parser = arguments(__doc__ or "", 3)
    parser.add_argument("--rows", type=int, default=0, help="instructions of a step (default: by the device's memory)")
    parser.add_argument("--config", default=str(Path(__file__).parents[1] / "configs/phi35.py"))
    parser.add_argument("--compiler-option", action="append", default=[], metavar="NAME=VALUE", help="for XLA")
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    tokens, name = options.instruction_tokens, Path(options.config).name
    roomy = memory().get("bytes_limit", 0) > ROOMY
    rows = options.rows or (64 if roomy else 32)
    report = Report(options.out, options.seconds, instruction_tokens=tokens, config=name)
    found = report.found
    found["steps"], found["profile"] = {}, {}
    dtype = "bfloat16" if on_gpu() else "float32"

    def products() -> None:
        found["products_per_second"] = product_rates(dtypes={"jax": (dtype,)})

    def measure(what: str, make: Callable[..., Step], on_text: float, on_suffix: float, look: bool) -> None:
        try:
            step = make()
            step.compile(options.compiler_option)
            figure = medians({what: step}, options.runs, 1)[what]
            peak = found.get("products_per_second", {}).get(f"jax {dtype}", float("inf"))
            found["steps"][what] = summary(step, figure, flops(step, on_text, on_suffix), peak)
            share = found["steps"][what]["share_of_the_rate_of_products"]
            print(f"{what}: {share:.2f} of the measured rate of products", flush=True)
            if look:
                found["profile"][what] = profile(step)
        finally:
            step = figure = None  # type: ignore[assignment]
            gc.collect()

    report.part("products", products)
    full, lora = "llm/.*", "llm/upper/.*/lora_[ab]"
    parts: list[tuple[str, Callable[..., Step], float, float, bool]] = [
        ("full fine-tuning", partial(large_step, options.config, full, rows, tokens), 3.0, 3.0, True),
        ("LoRA", partial(large_step, f"{options.config}:lora", lora, rows, tokens), 2.0, 2.0, False),
    ]
    if roomy or not on_gpu():
        kept = "full fine-tuning, products kept"
        less = max(1, rows * 3 // 4)
        parts.append((kept, partial(large_step, options.config, full, less, tokens, "dots"), 3.0, 3.0, False))
    for what, make, *rest in parts:
        report.part(what, partial(measure, what, make, *rest))
        if on_gpu() and what in report.errors:  # whatever it was, the other kernel may do
            what = f"{what}, XLA's attention"
            report.part(what, partial(measure, what, partial(make, attention="xla"), *rest))


if __name__ == "__main__":
    main()

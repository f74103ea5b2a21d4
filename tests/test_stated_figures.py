"""What README and docs say in figures is what the records hold, and the defaults that they list are those of the code."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from satjax.policy.zoo_file import Settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SMALLER_IS_BETTER = ("brier", "ece")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def row(page: str, label: str) -> list[str]:
    """The cells of a page's only table row that begins with a label, without it and without what is in brackets behind a figure."""
    (found,) = re.findall(rf"^\| {re.escape(label)} \|(.*)\|$", text(page), re.MULTILINE)
    return [re.sub(r" \(.*\)$", "", cell.strip()) for cell in found.split("|")]


def record(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def benches() -> tuple[dict, dict]:
    """Figures by method, of the bench of the default router and of the large one."""
    return record("bench_mmlu_pro")["methods"], record("bench_mmlu_pro_large")["methods"]


@pytest.mark.parametrize(
    ("page", "label", "figure"),
    [
        ("README.md", "AUROC of P(handled), pooled", "auroc_pooled"),
        ("README.md", "calibration error", "ece"),
        ("docs/results.md", "AUROC of P(handled), pooled", "auroc_pooled"),
        ("docs/results.md", "per candidate", "auroc_per_candidate"),
        ("docs/results.md", "within an instruction", "auroc_within_instruction"),
        ("docs/results.md", "Brier score", "brier"),
        ("docs/results.md", "expected calibration error", "ece"),
    ],
)
def test_correctness_is_that_of_the_records(page, label, figure, benches):
    default, large = (
        {name: method["correctness"][figure]["mean"] for name, method in each.items()} for each in benches
    )
    best = (min if figure in SMALLER_IS_BETTER else max)(value for name, value in default.items() if name != "router")
    expected = [f"{value:.3f}" for value in (default["router"], large["router"], best)]
    assert [cell for cell in row(page, label) if cell] == expected


@pytest.mark.parametrize(
    ("page", "label", "zoo"),
    [
        ("README.md", "routing accuracy, 13 candidates below 10B, %", "small"),
        ("README.md", "24 open candidates, %", "larger_mixed"),
        ("README.md", "all 25, %", "all"),
        ("docs/results.md", "13 below 10B (`small`)", "small"),
        ("docs/results.md", "17 below 60B (`middle_mixed`)", "middle_mixed"),
        ("docs/results.md", "all open, 24 (`larger_mixed`)", "larger_mixed"),
        ("docs/results.md", "three best open ≥ 60B (`high`)", "high"),
        ("docs/results.md", "all 25 (`all`; 1,932 instructions)", "all"),
    ],
)
def test_routing_is_that_of_the_records(page, label, zoo, benches):
    default, large = ({name: method["routing"][zoo] for name, method in each.items()} for each in benches)
    router = default["router"]
    best = max(figures["router"] for name, figures in default.items() if name != "router")
    expected = (router["router"], large["router"]["router"], router["best_single"], best, router["oracle"])
    assert row(page, label) == [f"{100 * value:.1f}" for value in expected]


@pytest.mark.parametrize("size", ["256", "64", "16"])
def test_what_fewer_items_cost_is_that_of_the_record(size):
    found, whole = record("protocol_onboarding")["sizes"][size], record("bench_mmlu_pro")["methods"]["router"]
    figures = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    expected = [*(f"{found[name]:.4f}" for name in figures), f"{100 * found['routed']:.1f}"]
    assert row("docs/results.md", f"{size} items") == expected
    lower = whole["correctness"]["auroc_pooled"]["mean"] - found["auroc_pooled"]
    told = {"256": "0.005 lower with 256", "64": "", "16": "0.025 lower with 16"}[size]
    assert told in text("README.md")
    assert not told or abs(lower - float(told[:5])) < 0.0006
    assert f"{100 * found['deviations']['routed']:.1f}" in text("docs/results.md")


def test_no_baseline_is_level_with_the_router_everywhere(benches):
    """README and results: none of the nine is significantly above it on any of the six zoos, and each is significantly below it on one."""
    for methods in benches:
        gains = {
            name: [zoo["router_gain"] for zoo in method["routing"].values()]
            for name, method in methods.items()
            if name != "router"
        }
        assert len(gains) == 9
        for each in gains.values():
            assert len(each) == 6
            assert min(gain["high"] for gain in each) >= 0
            assert max(gain["low"] for gain in each) > 0
    for page in ("README.md", "docs/results.md"):
        assert "none of the nine is" in text(page)


def test_what_more_instructions_gave_is_that_of_the_record():
    by_share = record("ceiling")["data"]
    for share, stated in (("0.25", "1,502 to train on"), ("0.5", "3,003"), ("1.0", "6,007")):
        runs = [figures["auroc_pooled"] for figures in by_share[share].values()]
        assert stated in text("README.md")
        assert f"{sum(runs) / len(runs):.3f}" in text("README.md")


def test_what_few_outcomes_give_is_that_of_the_record():
    each = record("sparse_mmlu_pro")["each"]
    figures = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier", "ece")
    for kept, found in each.items():
        mean = found["mean"]
        expected = [f"{mean[name]:.3f}" for name in figures]
        cells = [f"{found['outcomes_of_a_candidate']:,}", *expected, f"{100 * mean['routed']:.1f}"]
        assert row("docs/results.md", kept) == cells
    stated = f"with two of the 25 answers to each of the 7,007 instructions it is {each['2']['mean']['auroc_pooled']:.3f}, with one {each['1']['mean']['auroc_pooled']:.3f}"
    assert stated in " ".join(text("README.md").split())


def test_speed_is_that_of_the_records():
    gpu, cpu = record("rank_h200"), record("rank_cpu")
    ours = {m: f"{1e3 * gpu['figures'][f'Router.rank, {m} candidates']['median_s']:.1f}" for m in (25, 100, 1000)}
    a_second = gpu["throughput"]["Router.score, 25 candidates, 256 instructions at once"]["instructions_per_second"]
    published = max(each["instructions_per_second"] for name, each in gpu["throughput"].items() if "published" in name)
    slow = cpu["figures"]["torch bfloat16: the published way, 1 at a time"]["median_s"]
    alone = cpu["figures"]["the instruction alone, 30 layers"]["median_s"]
    share = f"{cpu['ratios']['Router.rank / the instruction alone']:.1f}"
    first, many, on_cpu = (
        row("README.md", label)[0]
        for label in (
            "`Router.rank` of one on an H200, once the first call has compiled it",
            "256 instructions in a call, on an H200",
            "one on two CPU cores",
        )
    )
    assert first == f"{ours[25]} ms; {ours[1000]} with 1,000 candidates"
    assert many.startswith(f"{round(a_second, -2):,.0f} a second, {a_second / published:.0f} times as many")
    assert on_cpu.startswith(f"{share} times as long as one pass")
    assert f"takes {slow / alone:.0f} times as long" in on_cpu
    assert row("docs/speed.md", "`Router.rank`, from the text; with 100; with 1,000 candidates") == [
        "; ".join(ours.values())
    ]
    assert row("docs/speed.md", "`Router.rank`, 25, 100 or 1,000 candidates") == [share]


def shown(name: str, value: float | str) -> str:
    if name.endswith("_bytes"):
        return f"{int(value) >> 20} MiB"
    return value if isinstance(value, str) else f"{value:,g}"


def test_serve_lists_every_setting_with_its_default():
    listed = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| (.+?) \| ", text("docs/serve.md"), re.MULTILINE)
    defaults = {
        name.strip("`"): value.strip("`")
        for names, values in listed
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }
    assert defaults == {each.name: shown(each.name, each.default) for each in dataclasses.fields(Settings)}

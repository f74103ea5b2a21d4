"""Drawings of a report's figures, each a PNG in base64, ready to stand in a page."""

import base64
import io
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from satjax.evaluation.comparison import ROUTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawn = ParamSpec("Drawn")

EAST_ASIAN = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "IPAexGothic",
    "NanumGothic",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang SC",
    "PingFang HK",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
)
"""Fonts of Linux, macOS and Windows that have the letters of Chinese, Japanese and Korean names: matplotlib's own font has none of them."""

WIDE = 10
"""Costs whose ends are this many times apart are drawn on a logarithmic axis."""

PLACES = tuple(
    (distance, right, up)
    for distance in (10, 28, 50, 76)
    for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1), (1, 1), (-1, -1))
)
"""Where a name may stand from its dot: pixels, and towards which side; the nearest first."""
NAME_COVERED = 1_000
"""How much worse it is that a name covers a dot or another name than that it covers a point of a line."""


def _in_any_script(draw: Callable[Drawn, str]) -> Callable[Drawn, str]:
    """The same, with letters that matplotlib's font lacks from those of `EAST_ASIAN` that are installed; one that is not would be warned of."""

    @wraps(draw)
    def drawing(*arguments: Drawn.args, **options: Drawn.kwargs) -> str:
        from matplotlib import rc_context, rcParams
        from matplotlib.font_manager import fontManager

        installed = set(fontManager.get_font_names())
        families = [*rcParams["font.family"], *(name for name in EAST_ASIAN if name in installed)]
        with rc_context({"font.family": families}):
            return draw(*arguments, **options)

    return drawing


@_in_any_script
def reliability(methods: dict[str, Any]) -> str:
    """Mean outcome against mean probability, a line per method."""
    figure = _figure(8, 5.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, linestyle="--")
    for name, method, style in _styled(methods):
        found = method["reliability"]
        marker = "o" if name == ROUTER else None
        axes.plot(found["probability"], found["outcome"], label=_literal(name), marker=marker, **style)
    axes.set(xlabel="mean probability", ylabel="mean outcome", xlim=(0, 1), ylim=(0, 1))
    _legend_beside(axes)
    return _png(figure)


@_in_any_script
def quality_against_cost(references: dict[str, Any], methods: dict[str, Any]) -> str:
    """Mean outcome against mean cost: a hull per method, the zero router, the oracle, and the single candidates as named dots."""
    from matplotlib.ticker import LogLocator

    figure = _figure(10.5, 5.8)
    axes = figure.subplots()
    low, high = (1000 * end for end in references["range"])
    if low > 0 and high > WIDE * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
    for label, linestyle in (("oracle", ":"), ("zero_router", "--")):
        if references[label]["hull"] is None:
            continue
        axes.plot(
            *_budgets(references[label]["hull"], high),
            label=label.replace("_", " "),
            color="#777",
            linestyle=linestyle,
            linewidth=1.8,
            zorder=2.5,
        )
    for name, method, style in _styled(methods):
        if "cost" in method:
            axes.plot(*_budgets(method["cost"]["hull"], high), label=_literal(name), **style)
    dots = [(1000 * found["cost"], 100 * found["outcome"], name) for name, found in references["candidates"].items()]
    axes.scatter([x for x, _, _ in dots], [y for _, y, _ in dots], color="#b22", s=22, zorder=4)
    axes.set(xlabel="cost per 1,000 calls, US dollars", ylabel="mean outcome, %")
    axes.margins(x=0.1, y=0.08)
    _legend_beside(axes)
    _name_dots(figure, axes, dots)
    return _png(figure)


def _budgets(hull: dict[str, list[float]], high: float) -> tuple[np.ndarray, np.ndarray]:
    """A hull in dollars per 1,000 calls and percent, level up to `high`; so many points that its straight lines bend on a logarithmic axis."""
    cost, outcome = 1000 * np.array(hull["cost"]), 100 * np.array(hull["outcome"])
    end = max(high, cost[-1])
    between = np.geomspace(cost[0], end, 200) if cost[0] > 0 else np.linspace(cost[0], end, 200)
    x = np.union1d(cost, between)
    return x, np.interp(x, cost, outcome)


@_in_any_script
def release_stream(releases: list[dict[str, Any]]) -> str:
    """Routing accuracy at each release with its 95 % interval, the newest candidate named below: the paper's Figure 5."""
    figure = _figure(max(7, 2.5 + 0.55 * len(releases)), 5.6)
    axes = figure.subplots()
    x = np.arange(len(releases))
    for name, style in (
        ("oracle", {"color": "C2", "marker": "^", "linestyle": ":"}),
        ("router", {"color": "black", "marker": "o", "linewidth": 2.5, "zorder": 3}),
        ("best_single", {"color": "C0", "marker": "s"}),
        ("random", {"color": "#888", "marker": "x", "linestyle": "--"}),
    ):
        axes.plot(x, _percent([step[name] for step in releases]), label=name.replace("_", " "), markersize=5, **style)
        ends = _ends([step[f"{name}_interval"] for step in releases])
        axes.fill_between(x, *ends, color=style["color"], alpha=0.12, linewidth=0)
    names = [_literal(f"{step['newest']}  {step['release_date']}") for step in releases]
    axes.set_xticks(x, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set(ylabel="routing accuracy, %")
    _legend_beside(axes)
    return _png(figure)


@_in_any_script
def onboarding(sizes: dict[str, Any]) -> str:
    """AUROCs and routing accuracy of candidates that training never met by the number of aptitude items that they answered.

    A band is as far as single draws of items are from their mean (standard deviation).
    """
    figure = _figure(10.5, 4.2)
    aurocs, routed = figure.subplots(1, 2)
    x = [int(size) for size in sizes]

    def draw(axes: "Axes", name: str, scale: float, **style: Any) -> None:
        value = scale * np.array([found[name] for found in sizes.values()], float)
        ends = scale * np.array([found["intervals"][name] for found in sizes.values()], float).T
        (line, *_) = axes.errorbar(x, value, abs(ends - value), capsize=4, **style)
        far = scale * np.array([found["deviations"][name] or 0 for found in sizes.values()], float)
        if far.any():
            axes.fill_between(x, value - far, value + far, color=line.get_color(), alpha=0.12, linewidth=0)

    draw(aurocs, "auroc_pooled", 1, color="black", marker="o", linewidth=2.5, label="pooled")
    for name, marker in (("per_candidate", "s"), ("within_instruction", "^")):
        draw(aurocs, f"auroc_{name}", 1, marker=marker, label=name.replace("_", " "))
    aurocs.set(ylabel="AUROC, with 95 % intervals")
    aurocs.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    draw(routed, "routed", 100, color="black", marker="o", linewidth=2.5)
    routed.set(ylabel="routing accuracy, all candidates new, %")
    for axes in (aurocs, routed):
        axes.set_xscale("log")
        axes.set_xticks(x, list(sizes))
        axes.minorticks_off()
        axes.set(xlabel="aptitude items answered")
        axes.grid(alpha=0.3)
    return _png(figure)


@_in_any_script
def coverage(figures: dict[str, Any]) -> str:
    """What unions of weaker candidates cover of the best one's right answers, and what they could do themselves: the paper's Figure 1.

    Bars and the band are 95 % intervals.
    """
    figure = _figure(10.5, 4.2)
    x = [int(size) for size in figures["sizes"]]
    best = _literal(figures["best_candidate"])
    label_of = {"best": f"best union, chosen on the {figures['chosen_on']} split", "mean": "mean of the unions"}
    labels = (("covers_best", f"also right where {best} is, %"), ("oracle", "right with an oracle to choose, %"))
    for axes, (name, label) in zip(figure.subplots(1, 2), labels, strict=True):
        for kind, style in (
            ("best", {"color": "black", "marker": "o", "linewidth": 2.5}),
            ("mean", {"color": "C0", "marker": "s"}),
        ):
            shares = [found[name] for found in figures["sizes"].values()]
            values = _percent([share[kind] for share in shares])
            ends = _ends([share[f"{kind}_interval"] for share in shares])
            axes.errorbar(x, values, abs(ends - values), capsize=4, label=label_of[kind], **style)
        if name == "oracle":
            low, high = _ends([figures["best_candidate_right_interval"]])[:, 0]
            axes.axhspan(low, high, color="#b22", alpha=0.12, linewidth=0)
            axes.axhline(100 * figures["best_candidate_right"], color="#b22", linestyle="--", label=best)
        axes.set(xlabel="weaker candidates in the union", ylabel=label)
        axes.set_xticks(x)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return _png(figure)


def _styled(methods: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Methods with a style each that tells more of them apart than there are colours; the router last, in front."""
    others = [name for name in methods if name != ROUTER]
    for i, name in enumerate(others):
        yield name, methods[name], {"color": f"C{i % 10}", "linestyle": ("-", "-.")[i // 10 % 2], "linewidth": 1.2}
    if ROUTER in methods:
        yield ROUTER, methods[ROUTER], {"color": "black", "linewidth": 2.5, "zorder": 3}


def _literal(name: str) -> str:
    """The name with its dollar signs escaped: matplotlib sets what stands between two as mathematics."""
    return name.replace("$", r"\$")


def _percent(values: list[float | None]) -> np.ndarray:
    return 100 * np.array(values, float)


def _ends(intervals: list[dict[str, Any]]) -> np.ndarray:
    """Lower and upper ends of N intervals in percent, float `[2, N]`; NaN where there is none."""
    return np.array([_percent([interval[end] for interval in intervals]) for end in ("low", "high")])


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _legend_beside(axes: "Axes") -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _name_dots(figure: "Figure", axes: "Axes", dots: list[tuple[float, float, str]]) -> None:
    """Names each dot (x, y, name) at the first of the places where the name covers least, by what follows the last slash where that tells it from the others."""
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # settles the layout, and with it where everything stands
    frame = axes.get_window_extent()
    at_D2 = axes.transData.transform([(x, y) for x, y, _ in dots])
    last_parts = [name.rsplit("/", 1)[-1] for _, _, name in dots]
    on_lines_P2 = np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.get_lines()])
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in at_D2]

    def covered(box: Bbox) -> int:
        outside = not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1))
        return NAME_COVERED * (box.count_overlaps(taken) + outside) + box.count_contains(on_lines_P2)

    for (x, y, name), last_part, (across, along) in zip(dots, last_parts, at_D2, strict=True):
        note = axes.annotate(
            _literal(last_part if last_part and last_parts.count(last_part) == 1 else name),
            (x, y),
            (0, 0),
            textcoords="figure pixels",
            va="bottom",
            fontsize=7.5,
            color="#722",
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": "#b99", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            in_layout=False,
        )
        width, height = Text.get_window_extent(note).size
        boxes = [
            Bbox.from_bounds(
                across + distance * right - width * (1 - right) / 2,
                along + distance * up - height * (1 - up) / 2,
                width,
                height,
            )
            for distance, right, up in PLACES
        ]
        best = min(boxes, key=covered)
        note.xyann = best.x0, best.y0
        taken.append(best)


def _png(figure: "Figure") -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return base64.b64encode(picture.getvalue()).decode()

from satjax.evaluation.comparison import APART
from satjax.evaluation.report import bench_tables


def figure(mean: float | None, deviation: float | None = None) -> dict:
    ends = (None, None) if mean is None else (mean - 0.1, mean + 0.1)
    return {"mean": mean, "deviation": deviation, "low": ends[0], "high": ends[1], "n": 9}


def method(aiq: float | None, apgr: float, cpt: float) -> dict:
    above = {"mean": None if aiq is None else aiq - 0.5, "low": -0.1, "high": 0.2, "n": 9}
    return {
        "cost": {"aiq": figure(aiq), "above_zero_router": above},
        "pair": {"apgr": figure(apgr, 0.01), "cpt50": figure(cpt), "cpt80": figure(None)},
    }


METHODS = {"router": method(0.75, 0.7, 0.3), "rival": method(0.625, 0.6, 0.2), "none": method(None, 0.5, 0.4)}


def rows_of(table: dict) -> dict[str, list[str]]:
    return {
        row["name"]: [f"{cell['value']} {cell['interval']}".strip() for cell in row["cells"]] for row in table["rows"]
    }


def best_of(table: dict) -> list[list[str]]:
    columns = zip(*(row["cells"] for row in table["rows"]), strict=True)
    names = [row["name"] for row in table["rows"]]
    return [[name for name, cell in zip(names, column, strict=True) if cell["best"]] for column in columns]


def test_cost():
    table = bench_tables.cost({"zero_router": {"aiq": 0.5}, "oracle": {"aiq": None}}, METHODS)
    rows = rows_of(table)
    assert list(rows) == ["zero router", "oracle", "router", "rival", "none"]
    assert (rows["zero router"], rows["oracle"]) == (["0.5000", ""], ["–", ""])
    assert rows["router"] == ["0.7500 [0.650, 0.850]", "+0.2500 [-0.1000, 0.2000]"]
    assert rows["none"][0] == "–"
    assert best_of(table) == [["router"], []]
    assert [row["name"] for row in table["rows"] if row["ours"]] == ["router"]


def test_what_had_more_to_go_by_is_never_the_best():
    methods = {**METHODS, **{name: method(0.99, 0.95, 0.1) for name in APART}}
    cost = bench_tables.cost({"zero_router": {"aiq": 0.5}, "oracle": {"aiq": None}}, methods)
    pair = bench_tables.pair({"oracle": {"apgr": 0.9, "cpt50": 0.125, "cpt80": 0.25}}, methods)
    assert best_of(cost) == [["router"], []]
    assert best_of(pair) == [["router"], ["rival"], []]
    equal = bench_tables.pair(
        {"oracle": {"apgr": 0.9, "cpt50": 0.125, "cpt80": 0.25}},
        {"router": method(0.7, 0.6, 0.2), APART[0]: method(0.7, 0.6, 0.2)},
    )
    assert best_of(equal) == [["router"], ["router"], []]


def test_pair_and_less_is_better_for_calls():
    table = bench_tables.pair({"oracle": {"apgr": 0.9, "cpt50": 0.125, "cpt80": 0.25}}, METHODS)
    rows = rows_of(table)
    assert rows["random"] == ["0.5000", "50.0", "80.0"]
    assert rows["oracle"] == ["0.9000", "12.5", "25.0"]
    assert rows["router"] == ["0.7000 ± 0.0100 [0.600, 0.800]", "30.0 [20.0, 40.0]", "–"]
    assert best_of(table) == [["router"], ["rival"], []]
    assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"])


def test_reliability_is_of_bins_that_any_method_fills():
    low, high = {"low": [0.0], "high": [0.1]}, {"low": [0.1], "high": [0.2]}
    both = {"low": [0.0, 0.1], "high": [0.1, 0.2]}
    numbers = {"probability": [0.05, 0.15], "outcome": [0.25, 0.5], "count": [4, 2]}
    first, second = ({name: values[i : i + 1] for name, values in numbers.items()} for i in range(2))
    found = {
        "second": high | second,
        "router": both | numbers,
        "first": low | first,
        "none": {name: [] for name in both | numbers},
    }
    table = bench_tables.reliability({name: {"reliability": each} for name, each in found.items()})
    assert [column["name"] for column in table["columns"]] == ["0.00 – 0.10", "0.10 – 0.20"]
    rows = rows_of(table)
    assert list(rows) == ["second", "router", "first", "none"]
    assert rows["router"] == ["0.050 → 0.250 n = 4", "0.150 → 0.500 n = 2"]
    assert (rows["second"], rows["first"]) == (["–", rows["router"][1]], [rows["router"][0], "–"])
    assert rows["none"] == ["–", "–"]
    assert best_of(table) == [[], []]

"""What the terminal shows of a preflight: every figure with its unit, small ones in a smaller one."""

import json
from pathlib import Path

from satjax.render.preflight import preflight_tables

RECORDED = Path(__file__).parents[1] / "benchmarks" / "results" / "preflight_phi35_v5e_16x16.json"


def test_no_collective_that_is_shown_moves_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    figures = json.loads(RECORDED.read_text(encoding="utf-8"))
    figures["train"]["collectives"][0] |= {"kind": "all-gather", "bytes": 3 * 2**20}
    preflight_tables(figures)
    shown = [line for line in capsys.readouterr().out.splitlines() if " runs over " in line]
    assert "3.0 MiB" in "".join(shown)
    assert not any(" 0.00 GiB" in line for line in shown)

"""`satjax preflight` from the command line: what it says of mistakes, and, slow, the paper's sizes against the recorded figures."""

import importlib.util
import json
from pathlib import Path

import pytest

from satjax.cli import main
from tests.conftest import need

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--topology", "v5e:16x17"], "did you mean"),
        (["--topology", "v5e:16x16", "--candidates", "0"], "at least 1"),
        (["--topology", "v5e:16x16", "--config.mesh.fsdp=7"], "mesh"),
        (["--topology", "v5e:16x16", "--sweep", "--out", "x.png"], "--out x.png: the plot is to have that name"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, said, capsys, monkeypatch):
    import jax

    monkeypatch.setattr("satjax.preflight.check.open_topology", lambda topology: jax.devices()[:8])
    assert main(["preflight", "--config", str(ROOT / "configs" / "phi35.py"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("fits", [True, False])
def test_the_exit_code_says_whether_it_fits(fits, capsys, monkeypatch, tmp_path):
    recorded = json.loads((RECORDED / "preflight_phi35_v5e_16x16.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("satjax.preflight.preflight", lambda *arguments, **options: {**recorded, "fits": fits})
    out = tmp_path / "figures.json"
    arguments = ["--config", str(ROOT / "configs" / "phi35.py"), "--topology", "v5e:16x16", "--out", str(out)]
    assert main(["preflight", *arguments]) == (0 if fits else 1)
    assert "predicted MFU" in capsys.readouterr().out
    assert json.loads(out.read_text(encoding="utf-8"))["fits"] is fits


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v4:4x4x4", "v5e:16x16", "v5p:4x4x4", "v6e:16x16"])
def test_the_paper_s_sizes_need_what_was_recorded(topology, tmp_path):
    """Golden: sharding that moves other bytes, or keeps others, than it did fails here."""
    need(
        importlib.util.find_spec("libtpu") is not None,
        "libtpu is not installed: pip install -e '.[preflight]' in the checkout",
    )
    out = tmp_path / "figures.json"
    code = main(
        ["preflight", "--config", str(ROOT / "configs" / "phi35.py"), "--topology", topology, "--out", str(out)]
    )
    name = f"preflight_phi35_{topology.replace(':', '_')}.json"
    found, recorded = (json.loads(path.read_text(encoding="utf-8")) for path in (out, RECORDED / name))
    assert code == 0
    for step in ("train", "rank"):
        new, old = found[step], recorded[step]
        assert new["memory"]["inputs"] == pytest.approx(old["memory"]["inputs"], rel=0.01)
        assert new["memory"]["total"] == pytest.approx(old["memory"]["total"], rel=0.05)
        assert new["flops"] == pytest.approx(old["flops"], rel=0.02)
        assert moved(new) == {key: pytest.approx(size, rel=0.02) for key, size in moved(old).items()}


def moved(figures):
    """Bytes by kind of collective, in the layers and beside them."""
    total: dict[tuple, int] = {}
    for row in figures["collectives"]:
        key = (row["kind"], row["in_loop"])
        total[key] = total.get(key, 0) + row["bytes"]
    return {key: size for key, size in total.items() if size > 2**20}

"""What people see of each protocol."""

from satjax.render.protocols import protocol_tables


def test_what_protocols_found(capsys):
    names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    sizes = {"16": {**dict.fromkeys(names, 0.7), "routed": 0.5, "draws": 1, "deviations": {"routed": None}}}
    protocol_tables({"protocol": "onboarding", "sizes": sizes})
    assert ["16", "0.7000", "0.7000", "0.7000", "0.7000", "50.00", "%"] in rows_of(capsys)
    sizes["16"] |= {"mean_items": 14.25, "auroc_per_candidate": None}
    protocol_tables({"protocol": "onboarding", "sizes": sizes})
    assert ["16", "(mean", "14.2)", "0.7000", "None", "0.7000", "0.7000", "50.00", "%"] in rows_of(capsys)
    sizes["16"] |= {"draws": 10, "deviations": {"routed": 0.0123}}
    protocol_tables({"protocol": "onboarding", "sizes": sizes})
    rows = rows_of(capsys)
    assert rows[0][:5] == ["means", "over", "10", "draws", "of"]
    assert ["0.7000", "50.00", "%", "±", "1.2"] in [row[-5:] for row in rows]
    step = {
        "release_date": "2024-01",
        "newest": "[b]x",
        "router": 0.5,
        "best_single": 0.4,
        "random": 0.1,
        "oracle": 0.9,
    }
    protocol_tables({"protocol": "release stream", "releases": [step]})
    assert ["2024-01", "[b]x", "50.00", "%", "40.00", "%", "10.00", "%", "90.00", "%"] in rows_of(capsys)
    pair = {"mean": 0.25, "best": 0.5}
    found = {"best_candidate": "meta[/llama]", "best_candidate_right": 0.75, "instructions": 8, "chosen_on": "train"}
    protocol_tables({"protocol": "coverage", **found, "sizes": {"2": {"covers_best": pair, "oracle": pair}}})
    rows = rows_of(capsys)
    assert ["meta[/llama]", "is", "right", "on", "75.00", "%", "of", "8", "instructions"] in rows
    assert any(" ".join(row).count("best by train") == 2 for row in rows)
    assert ["2", "25.00", "%", "50.00", "%", "25.00", "%", "50.00", "%"] in rows


def rows_of(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]

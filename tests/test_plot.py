import matplotlib.image
from matplotlib.figure import Figure

from satjax.preflight.plot import plot_preflight


def test_what_preflight_compared_is_drawn(tmp_path):
    def row(chips, rows, seconds):
        found = {"chips": chips, "mesh": {"data": 1, "fsdp": chips}, "rows_per_chip": rows, "total_bytes": rows * 2**30}
        return {**found, "fits": seconds > 0, "rows_per_second": rows * chips, "efficiency": 0.9 if seconds else None}

    figures = {"topology": "v5e:2x2", "chips": 4, "chip": {"hbm": 16 * 2**30}}
    images = []
    for more in ({"sweep": [row(4, 1, 1.0), row(4, 2, 0.0)]}, {"scaling": [row(4, 1, 0.0), row(16, 1, 1.0)]}):
        plot_preflight({**figures, **more}, tmp_path / "figures.png")
        images.append(matplotlib.image.imread(tmp_path / "figures.png"))
    assert images[0].shape[0] == images[1].shape[0]
    assert (images[0][:, :100] != images[1][:, :100]).any()
    assert [image.shape[1] for image in images] == [9 * 120, 5 * 120], "nothing is drawn of what was not compared"


def test_a_curve_above_one_is_drawn_whole(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, target: drawn.append(self))
    rows = [{"chips": chips, "efficiency": value} for chips, value in ((4, None), (16, 1.0), (64, 1.3), (256, 1.5))]
    plot_preflight({"scaling": rows}, tmp_path / "figures.png")
    [axes] = drawn[0].axes
    assert axes.get_ylim()[1] > 1.5
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "64", "256"]

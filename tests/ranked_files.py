"""Files of instructions, and the trained router that ranks them in this process."""

import signal
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from satjax.errors import SatjaxError, TryAgain
from satjax.rank_file import parts, plan, rank
from satjax.router import Router
from tests.trained import Trained

WORDS = [
    "sort",
    "the",
    "list",
    "of",
    "prime",
    "numbers",
    "and",
    "convert",
    "it",
    "to",
    "roman",
    "numerals",
    "please",
    "now",
]


def instructions(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{n}: {' '.join(rng.choice(WORDS, rng.integers(1, 30)))}" for n in range(count)]


def write_input(path: Path, texts: list, **columns: list) -> Path:
    pq.write_table(pa.table({"instruction": pa.array(texts, pa.string()), **columns}), path, row_group_size=7)
    return path


@dataclass(frozen=True)
class FileRanker:
    """A router and its directory."""

    router: Router
    directory: Path

    def run(self, source: Path, target: Path, **options) -> None:
        rank.rank_file(self.router, self.directory, source, target, **options)
        assert target.is_file() == (jax.process_index() == 0)

    def message(self, source: Path, target: Path, **options) -> str:
        """The one line that it ends with."""
        with pytest.raises(SatjaxError) as caught:
            self.run(source, target, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def interrupt(self, source: Path, target: Path) -> list[Path]:
        """Ranks until a chunk is done; returns the parts."""
        stop: list[int] = []
        once = rank.write_part
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rank, "write_part", lambda *a: (once(*a), stop.append(signal.SIGTERM)))
            with pytest.raises(TryAgain):
                self.run(source, target, stop=stop)
        found = sorted(target.with_name(f"{target.name}.parts").glob("part*"))
        assert found
        return found


@pytest.fixture(scope="session")
def ranker(trained: Trained) -> FileRanker:
    """The trained router."""
    return FileRanker(Router.load(trained.router), trained.router)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows are a chunk, which is ranked alone, and two chunks a row group."""
    monkeypatch.setattr(plan, "ROWS", 5)
    monkeypatch.setattr(rank, "MOST", 1)
    monkeypatch.setattr(parts, "GROUP", 2)

"""One trained router for all tests of a worker process: `tests.tiny` trained through `satjax.train`, in seconds."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from satjax.config import TrainConfig
from satjax.train import train
from tests.tiny import tiny_config


@dataclass(frozen=True)
class Trained:
    """A finished run. `directory` holds `llm`, `encoder` and `outcomes`; `router` is never to be altered, but copied first."""

    directory: Path
    workdir: Path
    router: Path
    config: TrainConfig

    @property
    def outcomes(self) -> Path:
        """The table that it was trained on."""
        return self.directory / "outcomes"

    def copy(self, target: Path) -> Path:
        """The router again, to be altered."""
        return Path(shutil.copytree(self.router, target))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once per worker process."""
    directory = tmp_path_factory.mktemp("trained")
    config = tiny_config(directory)
    workdir = directory / "run"
    return Trained(directory, workdir, train(config, workdir), config)

"""What baselines predicted, on disk: an interrupted run fits none of them twice."""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satjax import __version__
from satjax.evaluation.baselines.data import Instructions, Predictor
from satjax.files import replacing_file

FORMAT = 4
"""Goes up when a baseline predicts otherwise than before from the same: what was kept is fitted again."""


@dataclass(frozen=True)
class Fitted:
    """Probabilities float32 `[B, M]` of a fitted baseline, the settings that it chose, and how long it was fitted."""

    probability_BM: np.ndarray
    chosen: Mapping[str, Any]
    seconds: float


def fitted(
    directory: Path | None, name: str, seed: int, fit: Callable[..., Predictor], *given: Any, asked: Instructions
) -> Fitted:
    """What `fit(*given, seed)` predicts for `asked`; of the same name and seed, given and asked the same, it is what an earlier run of this version left in
    `directory`.
    """
    if directory is None:
        return _fit(fit, given, seed, asked)
    path = directory / f"{name}-{seed}-{_digest(__version__, FORMAT, *given, asked)[:16]}.npz"
    if path.is_file():
        # Whatever a damaged file makes NumPy, zipfile and json raise: it is fitted again.
        with contextlib.suppress(Exception), path.open("rb") as file, np.load(file) as found:
            return Fitted(found["probability_BM"], json.loads(str(found["chosen"])), float(found["seconds"]))
    made = _fit(fit, given, seed, asked)
    with replacing_file(path) as fresh, fresh.open("wb") as stream:
        np.savez(
            stream, probability_BM=made.probability_BM, chosen=np.array(json.dumps(made.chosen)), seconds=made.seconds
        )
    return made


def _fit(fit: Callable[..., Predictor], given: tuple[Any, ...], seed: int, asked: Instructions) -> Fitted:
    start = time.monotonic()
    predictor = fit(*given, seed)
    return Fitted(predictor(asked), predictor.chosen, time.monotonic() - start)


def _digest(*values: Any) -> str:
    """sha256 of arrays, texts and dataclasses of them."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        elif dataclasses.is_dataclass(value):
            parts = (getattr(value, field.name) for field in dataclasses.fields(value))
            digest.update(_digest(*parts).encode())
        else:
            digest.update(json.dumps(value).encode())
    return digest.hexdigest()

"""How well a router ranks, measured on outcomes."""

from satjax.evaluation.evaluate import evaluate, write_report
from satjax.evaluation.zoos import read_zoos

__all__ = ["evaluate", "read_zoos", "write_report"]

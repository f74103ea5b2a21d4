"""How well a router ranks, measured on outcomes."""

from satjax.evaluation.bench import bench
from satjax.evaluation.evaluate import evaluate, write_report
from satjax.evaluation.report import write_html
from satjax.evaluation.zoos import read_zoos

__all__ = ["bench", "evaluate", "read_zoos", "write_html", "write_report"]

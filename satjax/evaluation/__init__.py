"""How well a router ranks, measured on outcomes."""

from satjax.evaluation.evaluate import evaluate, write_report

__all__ = ["evaluate", "write_report"]

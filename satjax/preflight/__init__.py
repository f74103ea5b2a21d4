"""Compiles the train and rank steps for a TPU slice that nobody holds, and says what would come of running them."""

from satjax.preflight.check import preflight

__all__ = ["preflight"]

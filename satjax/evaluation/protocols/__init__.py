"""Protocols: one recipe trained again on less, and measured on what it did not see."""

from satjax.evaluation.protocols.coverage import coverage
from satjax.evaluation.protocols.folds import check_nothing_held_out
from satjax.evaluation.protocols.leave_out import leave_category_out, unseen_families
from satjax.evaluation.protocols.onboarding import onboarding
from satjax.evaluation.protocols.release_stream import release_stream

__all__ = [
    "check_nothing_held_out",
    "coverage",
    "leave_category_out",
    "onboarding",
    "release_stream",
    "unseen_families",
]

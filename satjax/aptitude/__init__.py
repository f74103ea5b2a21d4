"""The aptitude test, and the capability profile that a candidate's results on it make."""

from satjax.aptitude.core_tasks import AptitudeTest, CoreTask
from satjax.aptitude.profile import (
    CapabilityProfile,
    accuracy_and_count,
    check_same_test,
    known_profiles,
    profile_from_outcomes,
    profile_from_scores,
    render,
    render_sentences,
)
from satjax.aptitude.sampling import sample_aptitude_test

__all__ = [
    "AptitudeTest",
    "CapabilityProfile",
    "CoreTask",
    "accuracy_and_count",
    "check_same_test",
    "known_profiles",
    "profile_from_outcomes",
    "profile_from_scores",
    "render",
    "render_sentences",
    "sample_aptitude_test",
]

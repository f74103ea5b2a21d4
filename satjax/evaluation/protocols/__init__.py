"""Protocols: one recipe trained again on less, and measured on what it did not see."""

UNSEEN_FAMILIES = "unseen families"
LEAVE_CATEGORY_OUT = "leave category out"
ONBOARDING = "onboarding"
RELEASE_STREAM = "release stream"
COVERAGE = "coverage"
PROTOCOLS = (UNSEEN_FAMILIES, LEAVE_CATEGORY_OUT, ONBOARDING, RELEASE_STREAM, COVERAGE)
"""By the names that reports and messages have for them; a command has hyphens in them."""

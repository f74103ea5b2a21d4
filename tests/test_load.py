"""Config files are programs: they load, take changes from the command line, and their mistakes are one line."""

import dataclasses
from pathlib import Path

import pytest

from satjax.config import TrainConfig
from satjax.config.load import load_config
from satjax.errors import SatjaxError

CONFIGS = Path(__file__).parents[1] / "configs"
SMOKE = str(CONFIGS / "smoke.py")
HEAD = "from ml_collections import ConfigDict\nSTAGE = {'name': 'a', 'steps': 1, 'learning_rate': 1, 'trainable': ('x',)}\n"


def fault(path: str, *overrides: str) -> str:
    with pytest.raises(SatjaxError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_config_of_ours_loads_and_opens_with_its_command(path):
    config = load_config(str(path))
    assert isinstance(config, TrainConfig)
    assert config.total_steps == sum(stage.steps for stage in config.stages) > 0
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f'"""satjax train --config configs/{path.name} ')
    assert "--workdir" in first


def test_smoke_and_smollm2_are_there():
    assert {"smoke", "smollm2"} <= {path.stem for path in CONFIGS.glob("*.py")}


@pytest.mark.parametrize(
    ("variant", "seen"),
    [
        ("phi35.py", ("instruction_first", "yes_no", 0, "float32", False, True)),
        ("phi35.py:lora", ("instruction_first", "yes_no", 16, "bfloat16", False, False)),
        ("phi35.py:paper", ("capability_first", "yes", 0, "float32", True, True)),
        ("phi35.py:lora,paper", ("capability_first", "yes", 16, "bfloat16", True, False)),
        ("qwen25.py:1.5b", ("instruction_first", "yes_no", 0, "float32", False, True)),
        ("qwen25.py:lora", ("instruction_first", "yes_no", 16, "bfloat16", False, False)),
    ],
)
def test_words_after_the_name_of_a_size_choose_its_variant(variant, seen):
    config = load_config(str(CONFIGS / variant))
    router, everything = config.router, "llm/.*" in config.stages[1].trainable
    found = (router.prompt.layout, router.head, router.llm.lora_rank, router.param_dtype)
    assert (*found, config.batch.one_positive, everything) == seen
    assert config.stages[0].instructions == "aptitude_tasks"
    assert config.stages[0].trainable == ("connector/.*",)


def test_the_size_of_qwen_is_a_variant():
    weights = [load_config(str(CONFIGS / f"qwen25.py{word}")).router.llm.weights for word in ("", ":0.5b", ":1.5b")]
    assert weights == [f"hub:Qwen/Qwen2.5-{size}B-Instruct" for size in ("0.5", "0.5", "1.5")]
    assert "'0.5b,1.5b' names two sizes" in fault(str(CONFIGS / "qwen25.py:0.5b,1.5b"))
    assert "variant 'laura' is not known; there are lora and paper" in fault(str(CONFIGS / "phi35.py:laura"))


@pytest.mark.parametrize(("variant", "recipe"), [("tuned.py", "smollm2.py"), ("tuned.py:large", "qwen25_coder.py")])
def test_the_llm_is_trained_after_the_recipe_that_leaves_it_frozen(variant, recipe):
    tuned, frozen = (load_config(str(CONFIGS / name)) for name in (variant, recipe))
    assert tuned.stages[:1] == frozen.stages
    assert "llm/.*/lora_[ab]" in tuned.stages[1].trainable
    assert tuned.batch.groups * tuned.batch.instructions == frozen.batch.groups * frozen.batch.instructions
    assert (tuned.router.llm.lora_rank, tuned.router.llm.remat) == (16, "dots")
    untuned = dataclasses.replace(tuned.router, llm=dataclasses.replace(tuned.router.llm, lora_rank=0, remat="none"))
    assert untuned == frozen.router
    assert "variant 'small' is not known; there is large" in fault(str(CONFIGS / "tuned.py:small"))


def test_flags_change_single_values():
    plain = load_config(SMOKE)
    changed = load_config(
        SMOKE,
        [
            "--config.seed=7",
            "--config.optimizer.weight_decay=0.5",
            "--config.loss.over_instructions=1",
            "--config.data.outcomes=elsewhere",
            "--config.data.held_out_candidates=('a', 'b')",
            "--config.router.prompt.buckets=(32, 64)",
            "--config.router.llm.remat=full",
            "--config.stages[1].steps=15",
        ],
    )
    assert (changed.seed, changed.optimizer.weight_decay, changed.loss.over_instructions) == (7, 0.5, 1.0)
    assert (changed.data.outcomes, changed.data.held_out_candidates) == ("elsewhere", ("a", "b"))
    assert (changed.router.prompt.buckets, changed.router.llm.remat) == ((32, 64), "full")
    assert (changed.stages[1].steps, changed.stages[0]) == (15, plain.stages[0])
    assert changed.aptitude == plain.aptitude
    assert load_config(SMOKE) == plain  # and nothing stays behind


def test_flags_change_settings_that_the_file_leaves_out(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}def get_config(): return ConfigDict({{'stages': (STAGE,)}})")
    flags = [
        "--config.mesh.fsdp=4",
        "--config.data.held_out_candidates=('a',)",
        "--config.router.head=yes",
        "--config.stages[0].steps=4",
        "--config.stages[0].warmup_steps=3",
    ]
    plain, changed = load_config(str(path)), load_config(str(path), flags)
    assert (changed.mesh.fsdp, changed.data.held_out_candidates, changed.router.head) == (4, ("a",), "yes")
    assert changed.stages[0].warmup_steps == 3
    assert changed.batch == plain.batch


def test_the_flag_that_cannot_be_taken_is_named_alone():
    flags = ["--config.seed=7", "--config.aptitude.shots=ten", "--config.optimizer.weight_decay=0.5"]
    with pytest.raises(SatjaxError) as caught:
        load_config(SMOKE, flags)
    assert str(caught.value) == "--config.aptitude.shots=ten: 'ten' is no value for it; give one such as 20"


def test_the_last_of_two_flags_counts():
    assert load_config(SMOKE, ["--config.seed=7", "--config.seed=8"]).seed == 8


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("aptitude.shotz", "'config.aptitude.shots'"),
        ("router.lm.lora_rank", "'config.router.llm.lora_rank'"),
        ("stages[1].stepz", "'config.stages[1].steps'"),
        ("stages[7].steps", "'config.stages[0].steps'"),
        ("sead", "'config.seed'"),
    ],
)
def test_an_unknown_key_is_one_line_with_near_names(key, near):
    message = fault(SMOKE, "--config.seed=3", f"--config.{key}=3")
    assert message.startswith(f"unknown config key 'config.{key}': did you mean ")
    assert near in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.aptitude.shots=many", "'many'"),
        ("--config.aptitude.shots=1.5", "'1.5'"),
        ("--config.aptitude.shots", "Missing value for flag --config.aptitude.shots"),
        ("--config.aptitude=3", "--config.aptitude=3"),
        ("--config.aptitude.shots=0", "config aptitude.shots = 0 must be at least 1"),
        ("--config.router.head=maybe", "config.router.head = 'maybe': choose one of"),
        ("--config.router.prompt.buckets=(64, 32)", "give rising positive lengths"),
        ("--config.router.prompt.buckets[9]=3", "--config.router.prompt.buckets[9]=3: "),
    ],
)
def test_a_value_that_does_not_fit_is_one_line_that_names_it(override, words):
    assert words in fault(SMOKE, override)


@pytest.mark.parametrize("argument", ["--steps=3", "steps", "--config", "-config.seed=3"])
def test_other_arguments_are_unknown(argument):
    assert fault(SMOKE, argument).startswith(f"unknown argument {argument!r}; values of the config are changed by")


def test_a_missing_file_is_named(tmp_path):
    assert "absent.py: there is no such file; configs/smoke.py" in fault(str(tmp_path / "absent.py"))
    assert "there is no such file" in fault(str(tmp_path))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def get_config(:", "SyntaxError: invalid syntax"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def get_config(): return unheard_of", "NameError: name 'unheard_of' is not defined"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_config(): return int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
        ("def get_config(): return open('/no/such/file')", "No such file or directory: '/no/such/file'"),
        ("def get_config(): raise RuntimeError", "RuntimeError: no reason given"),
        ("def get_config(): raise RuntimeError('one\\ntwo')", "RuntimeError: two"),
        ("def get_config(): return {'stages': (STAGE,)}", "get_config() returns dict; let it return"),
        ("def get_config(): pass", "get_config() returns NoneType; let it return an ml_collections.ConfigDict"),
    ],
)
def test_a_file_that_fails_says_how(tmp_path, code, words):
    path = tmp_path / "mine.py"
    path.write_text(HEAD + code)
    message = fault(str(path), "--config.seed=3")
    assert message.startswith(f"--config {path} cannot be loaded: ")
    assert words in message


def test_an_unknown_key_in_the_file_itself_comes_with_near_names(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}def get_config(): return ConfigDict({{'stages': (STAGE,), 'bach': {{}}}})")
    assert "unknown config key 'config.bach': did you mean 'config.batch'" in fault(str(path))


def test_a_file_may_take_an_argument(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}def get_config(seed): return ConfigDict({{'stages': (STAGE,), 'seed': int(seed)}})")
    assert load_config(f"{path}:7").seed == 7
    assert load_config(f"{path}:7", ["--config.stages[0].steps=4"]).total_steps == 4
    assert "unknown config key 'config.sead': did you mean 'config.seed'" in fault(f"{path}:7", "--config.sead=3")
    assert "missing 1 required positional argument: 'seed'" in fault(str(path))

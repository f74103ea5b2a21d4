"""`satjax train`, what goes before it for a pod, and what comes after it for other frameworks."""

import argparse
import json

from satjax.cli.parser import SEVERAL_HOSTS, Verb, add_host_flags, say_interrupted
from satjax.errors import SatjaxError
from satjax.files import local_path, write_text
from satjax.pretrained import router_directory
from satjax.processes.interruption import Interrupted, ended_by_sigterm

DOES_NOT_FIT = 1


def add_verbs(verb: Verb) -> None:
    """Adds `train`, `preflight`, `convert`."""
    train = verb(
        "train",
        _train,
        "Train a router; goes on by itself where an earlier run stopped.",
        "satjax train --config configs/smollm2.py --config.data.outcomes=DIR --workdir runs/first",
        takes_config_flags=True,
    )
    train.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="a recipe, such as configs/smollm2.py; --config.a.b=v changes one value (satjax/config/settings.py lists them)",
    )
    train.add_argument(
        "--workdir",
        required=True,
        type=local_path,
        metavar="DIR",
        help="checkpoints, metrics, and the router at the end",
    )
    add_host_flags(train, "All hosts share one --workdir. " + SEVERAL_HOSTS)

    preflight = verb(
        "preflight",
        _preflight,
        "Compile the train and rank steps for a TPU slice that nobody holds: memory, collectives, speed. Exit code 1 where they do not fit.",
        "satjax preflight --config configs/phi35.py --topology v5e:16x16",
        takes_config_flags=True,
    )
    preflight.add_argument("--config", required=True, metavar="FILE", help="the recipe, as for `satjax train`")
    preflight.add_argument("--topology", required=True, metavar="CHIP:SHAPE", help="such as v5e:16x16 or v5p:4x4x4")
    preflight.add_argument(
        "--candidates",
        type=int,
        default=25,
        metavar="M",
        help="training candidates that the data has (default: %(default)s)",
    )
    preflight.add_argument(
        "--sweep",
        action="store_true",
        help="also compile other meshes and batches, and suggest one: a dozen compilations",
    )
    preflight.add_argument(
        "--scaling",
        action="store_true",
        help="also compile slices of 4 to 256 chips that the config's mesh goes on: the predicted weak scaling",
    )
    preflight.add_argument("--json", action="store_true", help="print JSON instead of tables")
    preflight.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="also write the JSON here, and a plot of what was compared beside it",
    )

    convert = verb(
        "convert",
        _convert,
        "Write a router's LLM as Hugging Face safetensors, adapters merged.",
        "satjax convert --router runs/phi/router --out runs/phi/llm",
    )
    convert.add_argument(
        "--router",
        required=True,
        type=router_directory,
        metavar="DIR",
        help="an exported router whose LLM answers (configs/phi35.py, qwen25.py, paper_recipe.py)",
    )
    convert.add_argument("--out", required=True, type=local_path, metavar="DIR", help="a new directory for the model")


# For what goes before training and after it: the roll call, the export.
@ended_by_sigterm("interrupted; run the same command again")
def _train(options: argparse.Namespace) -> int:
    from satjax.processes.distributed import find_cluster, together

    cluster = find_cluster(options.coordinator, options.num_processes, options.process_id, options.join_timeout)
    with together(cluster, options.join_timeout):
        # Not before: these take seconds, and who is missing is known without them.
        from satjax.cache.compiled import use_compilation_cache
        from satjax.config.load import load_config
        from satjax.processes.agreement import is_first
        from satjax.train import train

        use_compilation_cache(options.workdir)
        config = load_config(options.config, options.config_flags)
        try:
            router = train(config, options.workdir)
        except Interrupted as error:
            return say_interrupted(error)
        if is_first():
            print(f"router: {router}\ncurve:  {options.workdir / 'training_curve.png'}")
    return 0


def _preflight(options: argparse.Namespace) -> int:
    from satjax.config.load import load_config
    from satjax.preflight import preflight
    from satjax.preflight.plot import plot_preflight
    from satjax.render.preflight import preflight_tables
    from satjax.render.progress import steps

    if options.candidates < 1:
        raise SatjaxError(f"--candidates {options.candidates}: at least 1 is needed")
    plot = options.out.with_suffix(".png") if options.out and (options.sweep or options.scaling) else None
    if plot is not None and plot == options.out:
        raise SatjaxError(
            f"--out {options.out}: the plot is to have that name; give the JSON another ending, such as .json"
        )
    config = load_config(options.config, options.config_flags)
    with steps() as on_progress:
        figures = preflight(
            config,
            options.topology,
            num_candidates=options.candidates,
            sweep=options.sweep,
            scaling=options.scaling,
            on_progress=on_progress,
        )
    text = json.dumps({"config": options.config, "changes": options.config_flags, **figures}, indent=1)
    if options.out:
        write_text(options.out, text + "\n")
    if plot is not None:
        plot_preflight(figures, plot)
    if options.json:
        print(text)
    else:
        preflight_tables(figures)
    return 0 if figures["fits"] else DOES_NOT_FIT


def _convert(options: argparse.Namespace) -> int:
    from satjax.export.convert import convert

    print(f"model: {convert(options.router, options.out)}")
    return 0

"""The command line: verbs only; what they do lives elsewhere."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import absl.logging

from satjax import __version__
from satjax.errors import INTERRUPTED_EXIT_CODE, SatjaxError
from satjax.pretrained import DEFAULT

DOES_NOT_FIT = 1
PROTOCOLS = ("unseen-families", "leave-category-out", "onboarding", "release-stream", "coverage")
SEVERAL_HOSTS = """Start the same command on every host, with a --workdir that all of them see. On TPU pods (also on GKE), under SLURM and Open MPI,
and in indexed Kubernetes jobs (with the kubernetes package) nothing more is needed; elsewhere give the first three flags. Where a host is lost, or one
process gets SIGTERM, all end with exit code 75: start them again, on as many hosts as there are then, and training goes on from the last checkpoint."""
FORMATS = ("mmlu-pro", "routerbench", "lm-eval", "inspect", "helm", "opencompass", "csv", "jsonl")
ROUTER_HELP = "an exported router (default: the one that comes with satjax)"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise SatjaxError(f"{message} (see `{self.prog} --help`)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code: 0, 1 where `preflight` or `doctor` finds something amiss, 2 for mistakes that the user can mend, 75 where
    the same command goes on.
    """
    logging.basicConfig(level=logging.WARNING, format="satjax: %(message)s", stream=sys.stderr)
    logging.getLogger("satjax").setLevel(logging.INFO)
    # Where a save fails, Orbax raises; it also logs a traceback from each of its threads and futures.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    parser = _build_parser()
    try:
        options, rest = parser.parse_known_args(arguments)
        if rest and options.verb not in ("train", "protocol", "preflight"):
            parser.error(f"unknown argument {rest[0]!r}")
        return options.run(options, rest)
    except SatjaxError as error:
        print(f"satjax: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("satjax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="satjax", description="Rank candidate LLMs for an instruction without running any of them.")
    parser.add_argument("--version", action="version", version=f"satjax {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, run: Callable[[argparse.Namespace, list[str]], int], help: str, example: str
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    rank = verb(
        "rank",
        _rank,
        "Rank the router's candidates for instructions.",
        'satjax rank "Find all c such that Z_3[x]/(x^2 + c) is a field." --top 3\n'
        "         satjax rank --input in.parquet --output out.parquet",
    )
    rank.add_argument("instruction", nargs="*", help="the text to route")
    rank.add_argument("--router", default=DEFAULT, type=Path, metavar="DIR", help=ROUTER_HELP)
    rank.add_argument("--candidates", metavar="A,B", help="rank these only")
    rank.add_argument("--top", type=int, metavar="K", help="show the first K")
    rank.add_argument("--json", action="store_true", help="print JSON instead of a table")
    rank.add_argument("--input", type=Path, metavar="FILE", help="rank a Parquet file of instructions, of any length")
    rank.add_argument("--output", type=Path, metavar="FILE", help="with --input: where every row's probabilities go")
    rank.add_argument(
        "--column", default="instruction", metavar="NAME", help="with --input: the instructions' (default: instruction)"
    )

    train = verb(
        "train",
        _train,
        "Train a router; goes on by itself where an earlier run stopped.",
        "satjax train --config configs/smollm2.py --config.data.outcomes=DIR --workdir runs/first",
    )
    train.add_argument(
        "--config", required=True, metavar="FILE", help="a file with get_config(); --config.a.b=v changes one value"
    )
    train.add_argument(
        "--workdir", required=True, type=Path, metavar="DIR", help="checkpoints, metrics, and the router at the end"
    )
    hosts = train.add_argument_group("several hosts", SEVERAL_HOSTS)
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="process 0, at a free port that all others reach")
    hosts.add_argument("--num-processes", type=int, metavar="N", help="how many there are; 1: this host alone")
    hosts.add_argument("--process-id", type=int, metavar="I", help="which of them this is, from 0")
    hosts.add_argument(
        "--join-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for all of them to come (default: 300); then those missing are named, and the exit code is 75",
    )

    evaluate = verb(
        "evaluate",
        _evaluate,
        "Compare a router's probabilities with real outcomes.",
        "satjax evaluate --router runs/first/router --outcomes DIR --out runs/first/report",
    )
    evaluate.add_argument("--router", default=DEFAULT, type=Path, metavar="DIR", help=ROUTER_HELP)
    evaluate.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    evaluate.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="which items (default: test)"
    )
    evaluate.add_argument("--candidates", metavar="A,B", help="evaluate these only")
    evaluate.add_argument(
        "--new-candidates",
        default="profile",
        choices=("profile", "skip"),
        help="candidates the router does not know: profile them from the table, or skip them (default: profile)",
    )
    evaluate.add_argument(
        "--zoos",
        type=Path,
        metavar="FILE",
        help="TOML file of zoos to measure routing on, beside `all` (configs/zoos.toml)",
    )
    evaluate.add_argument("--out", required=True, type=Path, metavar="DIR", help="where report.json goes")

    bench = verb(
        "bench",
        _bench,
        "Compare a router with the baselines that it has to beat: report.json and report.html.",
        "satjax bench --router runs/first/router --outcomes DIR --zoos configs/zoos.toml --out runs/first/bench",
    )
    bench.add_argument(
        "--router", action="extend", nargs="+", type=Path, metavar="DIR", help="exported routers: seeds of one recipe"
    )
    bench.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    bench.add_argument("--split", default="test", choices=("val", "test"), help="which items (default: test)")
    bench.add_argument("--zoos", type=Path, metavar="FILE", help="TOML file of zoos, beside `all` (configs/zoos.toml)")
    bench.add_argument(
        "--baselines",
        metavar="A,B",
        help="these only (default: all that embeddings suffice for, and rerank where there are responses; llm_text runs where it is named)",
    )
    bench.add_argument("--candidates", metavar="A,B", help="measure these only")
    bench.add_argument(
        "--limit", type=int, metavar="N", help="measure on N instructions drawn at random (default: all)"
    )
    bench.add_argument(
        "--reranker",
        metavar="WEIGHTS",
        help="the text encoder of rerank, one that averages over tokens, such as hub:thenlper/gte-base (default: MiniLM)",
    )
    bench.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="fits of a baseline that chance enters (default: 5)"
    )
    bench.add_argument("--out", required=True, type=Path, metavar="DIR", help="where report.json and report.html go")

    protocol = verb(
        "protocol",
        _protocol,
        "Train a recipe again on less, and measure it on what it did not see: report.json and report.html.",
        "satjax protocol unseen-families --config configs/smollm2.py --config.data.outcomes=DIR --workdir runs/unseen",
    )
    protocol.add_argument("protocol", choices=PROTOCOLS, help="what is left out, or measured")
    protocol.add_argument("--config", required=True, metavar="FILE", help="the recipe, as for `satjax train`")
    protocol.add_argument(
        "--workdir", required=True, type=Path, metavar="DIR", help="its routers, one folder each, and the report"
    )
    protocol.add_argument(
        "--zoos", type=Path, metavar="FILE", help="TOML file of zoos, beside `all` (configs/zoos.toml)"
    )

    preflight = verb(
        "preflight",
        _preflight,
        "Compile the train and rank steps for a TPU slice that nobody holds: memory, collectives, speed. Exit code 1 where they do not fit.",
        "satjax preflight --config configs/phi35.py --topology v5e:16x16",
    )
    preflight.add_argument("--config", required=True, metavar="FILE", help="the recipe, as for `satjax train`")
    preflight.add_argument("--topology", required=True, metavar="CHIP:SHAPE", help="such as v5e:16x16 or v5p:4x4x4")
    preflight.add_argument(
        "--candidates", type=int, default=25, metavar="M", help="training candidates that the data has (default: 25)"
    )
    preflight.add_argument(
        "--sweep",
        action="store_true",
        help="also compile other meshes and batches, and suggest one: a dozen compilations",
    )
    preflight.add_argument(
        "--scaling", action="store_true", help="also compile slices of 4 to 256 chips: the predicted weak scaling"
    )
    preflight.add_argument("--json", action="store_true", help="print JSON instead of tables")
    preflight.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the JSON here, and a plot of what was compared beside it"
    )

    profile = verb(
        "profile",
        _profile,
        "Make a new candidate's capability profile from its outcomes.",
        "satjax profile --outcomes DIR --aptitude-test ROUTER/aptitude_test.json --candidate NAME --out NAME.json",
    )
    profile.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    profile.add_argument(
        "--aptitude-test", required=True, type=Path, metavar="FILE", help="the router's aptitude_test.json"
    )
    profile.add_argument("--candidate", required=True, metavar="NAME")
    profile.add_argument("--out", required=True, type=Path, metavar="FILE")

    imports = verb(
        "import",
        _import,
        "Convert upstream results to an outcome table.",
        "satjax import mmlu-pro model_outputs_*.zip --out outcomes/\n"
        "         satjax import lm-eval results/ --metric acc_norm --out outcomes/\n"
        "         satjax import csv log.csv --columns text=prompt,candidate=model,score=correct --out outcomes/",
    )
    imports.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    imports.add_argument("source", nargs="+", type=Path, metavar="SRC", help="files, or directories of them")
    imports.add_argument(
        "--metric", metavar="NAME", help="lm-eval, inspect, helm: which metric, scorer or stat is the score"
    )
    imports.add_argument(
        "--columns",
        metavar="item=A,text=B,…",
        help="csv, jsonl: columns that hold item, text, candidate, score, task, category, source, answer, split or cost, "
        "if named otherwise than in an outcome table; scores=NAME for each candidate with a column of its own",
    )
    imports.add_argument("--out", required=True, type=Path, metavar="DIR")

    outcomes = verb(
        "outcomes",
        lambda options, rest: options.of(options),
        "Look into outcome tables, or join them.",
        "satjax outcomes describe DIR",
    )
    actions = outcomes.add_subparsers(dest="action", required=True, metavar="ACTION")
    described = actions.add_parser("describe", help="What is in a table, and what is missing.")
    described.add_argument("outcomes", metavar="DIR", help="an outcome table, or 'synthetic'")
    described.add_argument("--json", action="store_true", help="print JSON instead of tables")
    described.set_defaults(of=_describe)
    merged = actions.add_parser("merge", help="Join tables into one; a question in two splits is an error.")
    merged.add_argument("outcomes", nargs="+", metavar="DIR", help="outcome tables")
    merged.add_argument("--out", required=True, type=Path, metavar="DIR")
    merged.set_defaults(of=_merge)

    convert = verb(
        "convert",
        _convert,
        "Write a router's LLM as Hugging Face safetensors, adapters merged.",
        "satjax convert --router runs/first/router --out runs/first/llm",
    )
    convert.add_argument("--router", required=True, type=Path, metavar="DIR", help="an exported router")
    convert.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new directory for the model")

    verb("doctor", _doctor, "Show versions, devices and base weights, and what to mend.", "satjax doctor")
    return parser


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _rank(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.render import ranking_table
    from satjax.router import Router, ranking

    if options.input or options.output:
        return _rank_file(options)
    if not options.instruction:
        raise SatjaxError("there is nothing to rank; give instructions, or --input FILE --output FILE")
    for text in options.instruction:
        if not text.strip():
            raise SatjaxError("an instruction is empty; give every instruction as non-empty text")
    router = Router.load(options.router)
    names = _names(options.candidates) or list(router.candidates)
    probability_BM = router.probability(options.instruction, names)
    rankings = [
        (text, ranking(names, row, options.top)) for text, row in zip(options.instruction, probability_BM, strict=True)
    ]
    if options.json:
        listed = [
            {"instruction": text, "ranking": [{"candidate": r.candidate, "probability": r.probability} for r in ranked]}
            for text, ranked in rankings
        ]
        print(json.dumps(listed, ensure_ascii=False, indent=1))
    else:
        for text, ranked in rankings:
            ranking_table(text, ranked, len(names))
    return 0


def _rank_file(options: argparse.Namespace) -> int:
    from satjax.rank_file import rank_file
    from satjax.render import progress
    from satjax.router import Router
    from satjax.train import stop_requests

    if not (options.input and options.output):
        raise SatjaxError("--input and --output go together: name both files")
    if options.instruction or options.top or options.json:
        raise SatjaxError("--input takes no instructions, --top or --json: all probabilities go to --output")
    router = Router.load(options.router)
    with stop_requests() as stop, progress("instructions") as on_progress:
        finished = rank_file(
            router,
            options.router,
            options.input,
            options.output,
            text=options.column,
            candidates=tuple(_names(options.candidates) or ()) or None,
            stop=stop,
            on_progress=on_progress,
        )
    if not finished:
        print("satjax: interrupted; what is ranked is kept: run the same command to go on", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    print(f"ranked: {options.output}")
    return 0


def _train(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.distributed import find_cluster, together

    cluster = find_cluster(options.coordinator, options.num_processes, options.process_id, options.join_timeout)
    with together(cluster, options.join_timeout):
        # Not before: these take seconds, and who is missing is known without them.
        from satjax.agreement import is_first
        from satjax.compilation_cache import use_compilation_cache
        from satjax.config_file import load_config
        from satjax.train import Interrupted, train

        use_compilation_cache(options.workdir)
        config = load_config(options.config, rest)
        try:
            router = train(config, options.workdir)
        except Interrupted as error:
            print(f"satjax: {error}", file=sys.stderr)
            return error.exit_code
        if is_first():
            print(f"router: {router}\ncurve:  {options.workdir / 'training_curve.png'}")
    return 0


def _evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.evaluation import evaluate, read_zoos, write_report
    from satjax.outcomes import open_outcomes
    from satjax.render import progress, report_table
    from satjax.router import Router

    table = open_outcomes(options.outcomes)
    zoos = read_zoos(options.zoos) if options.zoos else None
    router = Router.load(options.router, keep_features=True)
    with progress("scoring") as on_progress:
        report = evaluate(
            router,
            table,
            split=options.split,
            candidates=_names(options.candidates),
            new_candidates=options.new_candidates,
            zoos=zoos,
            on_progress=on_progress,
        )
    path = write_report(report.figures, options.out)
    report_table(report.figures)
    print(f"report: {path}")
    return 0


def _bench(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.config import EncoderWeights
    from satjax.evaluation import bench, read_zoos, write_html, write_report
    from satjax.outcomes import open_outcomes, read_responses
    from satjax.render import bench_table, steps
    from satjax.router import Router
    from satjax.weights.fetch import resolve

    if options.seeds < 1:
        raise SatjaxError(f"--seeds {options.seeds}: at least 1 fit is needed")
    table = open_outcomes(options.outcomes)
    responses = read_responses(options.outcomes, table)
    if names := _names(options.candidates):
        table = table.select_candidates(names)
    zoos = read_zoos(options.zoos) if options.zoos else None
    routers = [Router.load(directory, keep_features=True) for directory in options.router or [DEFAULT]]
    with steps() as on_progress:
        figures = bench(
            routers,
            table,
            encoder=resolve(EncoderWeights().weights),
            split=options.split,
            zoos=zoos,
            seeds=options.seeds,
            baselines=_names(options.baselines),
            responses=responses,
            reranker=resolve(options.reranker) if options.reranker else None,
            limit=options.limit,
            on_progress=on_progress,
        )
    path, page = write_report(figures, options.out), options.out / "report.html"
    write_html(figures, page)
    bench_table(figures)
    print(f"report: {path}\npage:   {page}")
    return 0


def _protocol(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.config_file import load_config
    from satjax.evaluation import protocols, read_zoos, write_html, write_report
    from satjax.outcomes import open_outcomes
    from satjax.render import protocol_tables, steps
    from satjax.train import Interrupted

    config = load_config(options.config, rest)
    zoos = read_zoos(options.zoos) if options.zoos else None
    try:
        with steps() as on_progress:
            match options.protocol:
                case "unseen-families":
                    figures = protocols.unseen_families(config, options.workdir, zoos=zoos, on_progress=on_progress)
                case "leave-category-out":
                    figures = protocols.leave_category_out(config, options.workdir, zoos=zoos, on_progress=on_progress)
                case "onboarding":
                    figures = protocols.onboarding(config, options.workdir, on_progress=on_progress)
                case "release-stream":
                    figures = protocols.release_stream(config, options.workdir, on_progress=on_progress)
                case _:
                    figures = protocols.coverage(open_outcomes(config.data.outcomes))
    except Interrupted as error:
        print(f"satjax: {error}", file=sys.stderr)
        return error.exit_code
    path, page = write_report(figures, options.workdir), options.workdir / "report.html"
    write_html(figures, page)
    protocol_tables(figures)
    print(f"report: {path}\npage:   {page}")
    return 0


def _preflight(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.config_file import load_config
    from satjax.files import write_text
    from satjax.plots import plot_preflight
    from satjax.preflight import preflight
    from satjax.render import preflight_tables, steps

    if options.candidates < 1:
        raise SatjaxError(f"--candidates {options.candidates}: at least 1 is needed")
    config = load_config(options.config, rest)
    with steps() as on_progress:
        figures = preflight(
            config,
            options.topology,
            num_candidates=options.candidates,
            sweep=options.sweep,
            scaling=options.scaling,
            on_progress=on_progress,
        )
    text = json.dumps({"config": options.config, "changes": rest, **figures}, indent=1)
    if options.out:
        write_text(options.out, text + "\n")
        if options.sweep or options.scaling:
            plot_preflight(figures, options.out.with_suffix(".png"))
    if options.json:
        print(text)
    else:
        preflight_tables(figures)
    return 0 if figures["fits"] else DOES_NOT_FIT


def _profile(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.aptitude import AptitudeTest, profile_from_outcomes
    from satjax.outcomes import open_outcomes

    table, test = open_outcomes(options.outcomes), AptitudeTest.read(options.aptitude_test)
    profile = profile_from_outcomes(table, test, options.candidate)
    profile.write(options.out)
    observed = int(profile.count_T.sum())
    print(f"profile: {options.out} ({observed} of {test.num_tasks * test.shots} aptitude items observed)")
    return 0


def _import(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.outcomes import import_outcomes, import_routerbench_responses, write_table

    table = import_outcomes(options.format, options.source, metric=options.metric, columns=options.columns)
    responses = import_routerbench_responses(options.source, table) if options.format == "routerbench" else None
    write_table(table, options.out, responses)
    print(f"outcomes: {options.out} ({len(table.candidates)} candidates, {len(table.items)} items)")
    return 0


def _describe(options: argparse.Namespace) -> int:
    from satjax.outcomes import describe, read_outcomes
    from satjax.render import description_tables

    figures = describe(read_outcomes(options.outcomes))
    if options.json:
        print(json.dumps(figures, ensure_ascii=False, indent=1))
    else:
        description_tables(figures)
    return 0


def _merge(options: argparse.Namespace) -> int:
    from satjax.outcomes import merge_tables, read_outcomes, write_table

    table = merge_tables({name: read_outcomes(name) for name in options.outcomes})
    write_table(table, options.out)
    print(f"outcomes: {options.out} ({len(table.candidates)} candidates, {len(table.items)} items)")
    return 0


def _convert(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.convert import convert

    print(f"model: {convert(options.router, options.out)}")
    return 0


def _doctor(options: argparse.Namespace, rest: list[str]) -> int:
    from satjax.doctor import doctor

    return doctor()

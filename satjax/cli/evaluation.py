"""`satjax evaluate`, `calibrate`, `bench` and `protocol`: routers against real outcomes."""

import argparse
from pathlib import Path

from satjax.cli.parser import ROUTER_HELP, Verb, names_in, say_interrupted
from satjax.errors import SatjaxError
from satjax.evaluation import protocols
from satjax.files import local_path
from satjax.pretrained import DEFAULT, router_directory

PROTOCOLS = {name.replace(" ", "-"): name for name in protocols.PROTOCOLS}
WITH_ZOOS = [name.replace(" ", "-") for name in (protocols.UNSEEN_FAMILIES, protocols.LEAVE_CATEGORY_OUT)]


def add_verbs(verb: Verb) -> None:
    """Adds `evaluate`, `calibrate`, `bench`, `protocol`."""
    evaluate = verb(
        "evaluate",
        _evaluate,
        "Compare a router's probabilities with real outcomes.",
        "satjax evaluate --router runs/first/router --outcomes DIR --out runs/first/report",
    )
    evaluate.add_argument("--router", default=DEFAULT, type=router_directory, metavar="DIR", help=ROUTER_HELP)
    evaluate.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    evaluate.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="which items (default: %(default)s)"
    )
    evaluate.add_argument("--candidates", metavar="A,B", help="evaluate these only, names with commas between them")
    evaluate.add_argument(
        "--new-candidates",
        default="profile",
        choices=("profile", "skip"),
        help="candidates the router does not know: profile them from the table, or skip them (default: %(default)s)",
    )
    evaluate.add_argument(
        "--zoos",
        type=Path,
        metavar="FILE",
        help="TOML file of zoos to measure routing on, beside `all` (configs/zoos.toml)",
    )
    evaluate.add_argument("--out", required=True, type=local_path, metavar="DIR", help="where report.json goes")

    calibrate = verb(
        "calibrate",
        _calibrate,
        "Fit a router's probabilities to held-out outcomes, and thresholds at which cheaper candidates do nearly as well as the best one.",
        "satjax calibrate --router runs/first/router --outcomes DIR --out runs/first/calibrated",
    )
    calibrate.add_argument("--router", default=DEFAULT, type=router_directory, metavar="DIR", help=ROUTER_HELP)
    calibrate.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    calibrate.add_argument("--split", default="val", choices=("val", "test"), help="which items (default: %(default)s)")
    calibrate.add_argument(
        "--method",
        default="platt",
        choices=("platt", "isotonic"),
        help="the map from scores to probabilities (default: %(default)s); the table shows both",
    )
    calibrate.add_argument(
        "--zoo",
        type=Path,
        metavar="FILE",
        help="zoo.toml with prices, for the thresholds (default: the costs in the outcome table)",
    )
    calibrate.add_argument(
        "--out",
        required=True,
        type=local_path,
        metavar="DIR",
        help="where the router with its new calibration is written; give the DIR of --router to replace that one",
    )

    bench = verb(
        "bench",
        _bench,
        "Compare a router with the baselines that it has to beat: report.json and report.html.",
        "satjax bench --router runs/first/router --outcomes DIR --zoos configs/zoos.toml --out runs/first/bench",
    )
    bench.add_argument(
        "--router",
        action="extend",
        nargs="+",
        type=router_directory,
        metavar="DIR",
        help="exported routers: seeds of one recipe (default: the one that comes with satjax)",
    )
    bench.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    bench.add_argument("--zoos", type=Path, metavar="FILE", help="TOML file of zoos, beside `all` (configs/zoos.toml)")
    bench.add_argument(
        "--baselines",
        metavar="A,B",
        help="these only (default: all that embeddings suffice for, and rerank where there are responses; llm_text runs where it is named)",
    )
    bench.add_argument("--candidates", metavar="A,B", help="measure these only, names with commas between them")
    bench.add_argument(
        "--limit", type=int, metavar="N", help="measure on N instructions drawn at random (default: all)"
    )
    bench.add_argument(
        "--reranker",
        metavar="WEIGHTS",
        help="the text encoder of rerank, such as hub:thenlper/gte-base or hub:BAAI/bge-base-en-v1.5; no cross-encoder (default: MiniLM)",
    )
    bench.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="fits of a baseline that chance enters (default: %(default)s)"
    )
    bench.add_argument(
        "--out",
        required=True,
        type=local_path,
        metavar="DIR",
        help="where report.json and report.html go, and what the baselines predict: interrupted, the same command goes on",
    )

    protocol = verb(
        "protocol",
        _protocol,
        "Train a recipe again on less, and measure it on what it did not see: report-PROTOCOL.json and .html.",
        "satjax protocol unseen-families --config configs/smollm2.py --config.data.outcomes=DIR --workdir runs/unseen",
        takes_config_flags=True,
    )
    protocol.add_argument(
        "protocol",
        choices=PROTOCOLS,
        help="unseen-families, leave-category-out: each left out of training in turn; onboarding: new candidates by number of aptitude items; "
        "release-stream: newer candidates as they come out; coverage: what weaker candidates could do together (trains nothing)",
    )
    protocol.add_argument("--config", required=True, metavar="FILE", help="the recipe, as for `satjax train`")
    protocol.add_argument(
        "--workdir", required=True, type=local_path, metavar="DIR", help="its routers, one folder each, and the report"
    )
    protocol.add_argument(
        "--zoos",
        type=Path,
        metavar="FILE",
        help="TOML file of zoos, beside `all` (configs/zoos.toml), for unseen-families and leave-category-out",
    )


def _evaluate(options: argparse.Namespace) -> int:
    from satjax.cache.compiled import use_compilation_cache
    from satjax.evaluation.evaluate import evaluate, write_report
    from satjax.evaluation.provenance import made_of
    from satjax.evaluation.zoos import read_zoos
    from satjax.outcomes import open_outcomes
    from satjax.render.evaluation import report_table
    from satjax.render.progress import progress
    from satjax.router import Router

    chosen = names_in(options.candidates, "--candidates")
    table = open_outcomes(options.outcomes)
    zoos = read_zoos(options.zoos) if options.zoos else None
    use_compilation_cache()
    router = Router.load(options.router, keep_features=True)
    made = made_of(options.outcomes, table, [options.router], candidates=chosen)
    with progress("scoring") as on_progress:
        figures = evaluate(
            router,
            table,
            split=options.split,
            candidates=chosen,
            new_candidates=options.new_candidates,
            zoos=zoos,
            on_progress=on_progress,
        )
    report_table(figures)  # before it is written: where that fails, the figures are not lost
    path = write_report(figures | {"made": made}, options.out)
    print(f"report: {path}")
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from satjax.cache.compiled import use_compilation_cache
    from satjax.evaluation.calibrate import recalibrate, write_calibrated
    from satjax.export.directory import check_free
    from satjax.outcomes import open_outcomes
    from satjax.policy.zoo_file import read_zoo_file
    from satjax.render.progress import progress
    from satjax.render.recalibration import calibration_tables
    from satjax.router import Router

    check_free(options.router, options.out)
    zoo = read_zoo_file(options.zoo) if options.zoo else None
    table = open_outcomes(options.outcomes)
    use_compilation_cache()
    router = Router.load(options.router, keep_features=True)
    with progress("scoring") as on_progress:
        found = recalibrate(router, table, split=options.split, method=options.method, zoo=zoo, on_progress=on_progress)
    calibration_tables(found.calibration, found.figures)
    write_calibrated(found, options.router, options.out)
    print(f"router: {options.out}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from satjax.cache.compiled import use_compilation_cache
    from satjax.config import EncoderWeights
    from satjax.evaluation.bench import bench
    from satjax.evaluation.comparison import RERANK
    from satjax.evaluation.evaluate import write_report
    from satjax.evaluation.provenance import made_of
    from satjax.evaluation.report.html import write_html
    from satjax.evaluation.seeds import check_seeds
    from satjax.evaluation.zoos import read_zoos
    from satjax.outcomes import open_outcomes, read_responses
    from satjax.render.evaluation import bench_table
    from satjax.render.progress import steps
    from satjax.router import Router
    from satjax.weights.fetch import resolve

    if options.seeds < 1:
        raise SatjaxError(f"--seeds {options.seeds}: at least 1 fit is needed")
    chosen, baselines = names_in(options.candidates, "--candidates"), names_in(options.baselines, "--baselines")
    if options.reranker and baselines is not None and RERANK not in baselines:
        raise SatjaxError("--reranker reads for rerank, which is not among --baselines; add rerank, or leave it out")
    table = open_outcomes(options.outcomes)
    responses = read_responses(options.outcomes, table)
    if options.reranker and responses is None:
        raise SatjaxError(
            f"--reranker reads what candidates answered; {options.outcomes} has no responses.parquet; add it, or leave the flag out"
        )
    zoos = read_zoos(options.zoos) if options.zoos else None
    check_seeds(options.router or ())
    use_compilation_cache()
    routers = (Router.load(directory, keep_features=True) for directory in options.router or [DEFAULT])
    encoder = resolve(EncoderWeights().weights)
    made = made_of(options.outcomes, table, options.router or [DEFAULT], encoder=encoder.source)
    with steps() as on_progress:
        figures = bench(
            routers,
            table,
            encoder=encoder,
            zoos=zoos,
            seeds=options.seeds,
            baselines=baselines,
            candidates=chosen,
            responses=responses,
            reranker=resolve(options.reranker) if options.reranker else None,
            limit=options.limit,
            kept=options.out / "baselines",
            on_progress=on_progress,
        )
    bench_table(figures)
    figures["made"] = made
    path, page = write_report(figures, options.out), options.out / "report.html"
    write_html(figures, page)
    print(f"report: {path}\npage:   {page}")
    return 0


def _protocol(options: argparse.Namespace) -> int:
    from satjax.cache.compiled import use_compilation_cache
    from satjax.config.load import load_config
    from satjax.evaluation.evaluate import write_report
    from satjax.evaluation.protocols import coverage, folds, leave_out, onboarding, release_stream
    from satjax.evaluation.provenance import made_of
    from satjax.evaluation.report.html import write_html
    from satjax.evaluation.zoos import read_zoos
    from satjax.outcomes import open_outcomes
    from satjax.processes.interruption import Interrupted
    from satjax.render.progress import steps
    from satjax.render.protocols import protocol_tables

    if options.zoos and options.protocol not in WITH_ZOOS:
        raise SatjaxError(
            f"--zoos: {options.protocol} measures no zoos; leave it out ({' and '.join(WITH_ZOOS)} take it)"
        )
    config = load_config(options.config, options.config_flags)
    zoos = read_zoos(options.zoos) if options.zoos else None
    outcomes, command = config.data.outcomes, {"config_file": options.config, "flags": options.config_flags}
    made = made_of(outcomes, open_outcomes(outcomes), config=config, **command)
    use_compilation_cache()
    try:
        with steps() as on_progress:
            match PROTOCOLS[options.protocol]:
                case protocols.UNSEEN_FAMILIES:
                    figures = leave_out.unseen_families(config, options.workdir, zoos=zoos, on_progress=on_progress)
                case protocols.LEAVE_CATEGORY_OUT:
                    figures = leave_out.leave_category_out(config, options.workdir, zoos=zoos, on_progress=on_progress)
                case protocols.ONBOARDING:
                    figures = onboarding.onboarding(config, options.workdir, on_progress=on_progress)
                case protocols.RELEASE_STREAM:
                    figures = release_stream.release_stream(config, options.workdir, on_progress=on_progress)
                case _:
                    folds.check_nothing_held_out(config, protocols.COVERAGE)
                    figures = coverage.coverage(open_outcomes(config.data.outcomes))
    except Interrupted as error:
        return say_interrupted(error)
    protocol_tables(figures)
    figures["made"] = made
    path = write_report(figures, options.workdir, f"report-{options.protocol}")
    page = path.with_suffix(".html")
    write_html(figures, page)
    print(f"report: {path}\npage:   {page}")
    return 0

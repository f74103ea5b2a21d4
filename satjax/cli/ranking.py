"""`satjax rank`: instructions of the command line, or of a file."""

import argparse
import json
from pathlib import Path

from satjax.cli.parser import ROUTER_HELP, SEVERAL_HOSTS, Verb, add_host_flags, names_in
from satjax.errors import SatjaxError
from satjax.files import local_path
from satjax.pretrained import DEFAULT, router_directory
from satjax.render.standard_output import can_print


def add_verbs(verb: Verb) -> None:
    """Adds `rank`."""
    rank = verb(
        "rank",
        _rank,
        "Rank the router's candidates for instructions.",
        'satjax rank "Find all c such that Z_3[x]/(x^2 + c) is a field." --top 3\n'
        "         satjax rank --input in.parquet --output out.parquet",
    )
    rank.add_argument("instruction", nargs="*", help="the text to route")
    rank.add_argument("--router", default=DEFAULT, type=router_directory, metavar="DIR", help=ROUTER_HELP)
    rank.add_argument(
        "--candidates",
        metavar="A,B",
        help="rank these only, names with commas between them (default: all of the router)",
    )
    rank.add_argument("--top", type=int, metavar="K", help="show the first K (default: all)")
    rank.add_argument("--json", action="store_true", help="print JSON instead of a table")
    rank.add_argument("--input", type=Path, metavar="FILE", help="rank a Parquet file of instructions, of any length")
    rank.add_argument(
        "--output",
        type=local_path,
        metavar="FILE",
        help="with --input: the Parquet file to write, with every candidate's probabilities",
    )
    rank.add_argument(
        "--column",
        metavar="NAME",
        help="with --input: the column that holds the instructions (default: instruction)",
    )
    add_host_flags(
        rank, "With --input: each host ranks a share of the rows, into files that all of them see. " + SEVERAL_HOSTS
    )


def _rank(options: argparse.Namespace) -> int:
    if options.input or options.output:
        return _rank_file(options)
    if not options.instruction:
        raise SatjaxError("there is nothing to rank; give instructions, or --input FILE --output FILE")
    for flag in ("column", "coordinator", "num_processes", "process_id"):
        if getattr(options, flag) is not None:
            raise SatjaxError(
                f"--{flag.replace('_', '-')} goes with --input: name a file of instructions, or leave it out"
            )
    if options.top is not None and options.top < 1:
        raise SatjaxError(f"--top {options.top}: ask for at least 1 candidate")
    for text in options.instruction:
        if not text.strip():
            raise SatjaxError("an instruction is empty; give every instruction as non-empty text")
    chosen = names_in(options.candidates, "--candidates")
    # Not before: these take seconds, which no mistake above needs.
    from satjax.cache.compiled import use_compilation_cache
    from satjax.export.directory import check_candidates
    from satjax.render.ranking import ranking_table
    from satjax.router import Router, ranking

    if chosen is not None:
        check_candidates(options.router, chosen)
    use_compilation_cache()
    router = Router.load(options.router)
    names = list(router.candidates if chosen is None else chosen)
    score_BM = router.score(options.instruction, names)
    rankings = [
        (text, ranking(names, score_M, router.calibration, options.top))
        for text, score_M in zip(options.instruction, score_BM, strict=True)
    ]
    if options.json:
        listed = [
            {"instruction": text, "ranking": [{"candidate": r.candidate, "probability": r.probability} for r in ranked]}
            for text, ranked in rankings
        ]
        printed = json.dumps(listed, ensure_ascii=False, indent=1)
        print(printed if can_print(printed) else json.dumps(listed, indent=1))
    else:
        for text, ranked in rankings:
            ranking_table(text, ranked, len(names))
    return 0


def _rank_file(options: argparse.Namespace) -> int:
    from satjax.processes.distributed import find_cluster, together
    from satjax.processes.interruption import ended_by_interrupt, stop_requests

    if not (options.input and options.output):
        raise SatjaxError("--input and --output go together: name both files")
    if options.instruction or options.top is not None or options.json:
        raise SatjaxError("--input takes no instructions, --top or --json: all probabilities go to --output")
    chosen = names_in(options.candidates, "--candidates")
    cluster = find_cluster(options.coordinator, options.num_processes, options.process_id, options.join_timeout)
    with ended_by_interrupt(), together(cluster, options.join_timeout):
        import jax

        from satjax.cache.compiled import use_compilation_cache
        from satjax.config import MeshConfig
        from satjax.export.directory import check_candidates
        from satjax.processes.agreement import is_first
        from satjax.rank_file.plan import check_files
        from satjax.rank_file.rank import rank_file
        from satjax.render.progress import progress
        from satjax.router import Router
        from satjax.sharding import make_mesh

        column = options.column or "instruction"
        check_files(options.input, options.output, column)
        if chosen is not None:
            check_candidates(options.router, chosen)
        use_compilation_cache()
        devices = jax.local_devices()
        router = Router.load(options.router, mesh=make_mesh(MeshConfig(), devices) if len(devices) > 1 else None)
        with stop_requests(waits=False) as stop, progress("instructions") as on_progress:
            rank_file(
                router,
                options.router,
                options.input,
                options.output,
                column=column,
                candidates=chosen,
                stop=stop,
                on_progress=on_progress,
            )
        if is_first():
            print(f"ranked: {options.output}")
    return 0

"""`satjax serve`: an OpenAI-compatible server before the candidates' backends."""

import argparse
import importlib.util
from pathlib import Path

from satjax.cli.parser import ROUTER_HELP, Verb
from satjax.errors import SatjaxError, how_to_install
from satjax.pretrained import DEFAULT, router_directory

NEEDED = ("fastapi", "uvicorn", "httpx", "prometheus_client")


def add_verbs(verb: Verb) -> None:
    """Adds `serve`."""
    serve = verb(
        "serve",
        _serve,
        "Serve candidates behind one OpenAI-compatible address: every request goes to the best of them.",
        "satjax serve --zoo configs/serve_zoo.toml --port 8080",
    )
    serve.add_argument("--router", default=DEFAULT, type=router_directory, metavar="DIR", help=ROUTER_HELP)
    serve.add_argument(
        "--zoo", required=True, type=Path, metavar="FILE", help="backends, prices and limits (configs/serve_zoo.toml)"
    )
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine only)")
    serve.add_argument("--port", default=8080, type=int, help="0 takes a free one (default: %(default)s)")
    serve.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="keys of those who may ask, one a line, beside those in SATJAX_API_KEYS",
    )
    serve.add_argument(
        "--admin-keys",
        type=Path,
        metavar="FILE",
        help="keys of those who may add and remove candidates, beside those in SATJAX_ADMIN_KEYS",
    )
    serve.add_argument(
        "--without-keys", action="store_true", help="let other machines ask without a key, where something else checks"
    )


def _serve(options: argparse.Namespace) -> int:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise SatjaxError(f"`satjax serve` needs {', '.join(missing)}: {how_to_install('serve')}")
    from satjax.cache.compiled import use_compilation_cache
    from satjax.serving.keys import read_keys
    from satjax.serving.server import check_open, serve

    keys = read_keys("SATJAX_API_KEYS", options.api_keys)
    check_open(options.host, keys, options.without_keys)
    admin_keys = read_keys("SATJAX_ADMIN_KEYS", options.admin_keys)
    use_compilation_cache()
    serve(options.router, options.zoo, options.host, options.port, keys, admin_keys)
    return 0

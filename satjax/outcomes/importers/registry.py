"""Upstream formats by name, and which of their options each takes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from satjax.errors import SatjaxError, unknown_name
from satjax.outcomes.importers.capit import import_capit
from satjax.outcomes.importers.columns import import_csv, import_jsonl, import_parquet
from satjax.outcomes.importers.helm import import_helm
from satjax.outcomes.importers.inspect_log import import_inspect
from satjax.outcomes.importers.lm_eval import import_lm_eval
from satjax.outcomes.importers.mmlu_pro import import_mmlu_pro
from satjax.outcomes.importers.opencompass import import_opencompass
from satjax.outcomes.importers.routerbench import import_routerbench
from satjax.outcomes.table import OutcomeTable

IMPORTERS: Mapping[str, tuple[Callable[..., OutcomeTable], tuple[str, ...]]] = {
    "mmlu-pro": (import_mmlu_pro, ()),
    "routerbench": (import_routerbench, ()),
    "lm-eval": (import_lm_eval, ("metric",)),
    "inspect": (import_inspect, ("metric",)),
    "helm": (import_helm, ("metric",)),
    "opencompass": (import_opencompass, ()),
    "capit": (import_capit, ()),
    "csv": (import_csv, ("columns",)),
    "jsonl": (import_jsonl, ("columns",)),
    "parquet": (import_parquet, ("columns",)),
}


def import_outcomes(form: str, paths: Sequence[Path | str], **options: str | None) -> OutcomeTable:
    """The outcomes of files of this format; options that are None count as not given, others must be the format's own."""
    if form not in IMPORTERS:
        raise unknown_name("format", form, IMPORTERS)
    importer, takes = IMPORTERS[form]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in takes:
            raise SatjaxError(f"{form} takes no --{name}; leave it out")
    return importer(paths, **given)

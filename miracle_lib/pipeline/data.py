"""From the outside world to samples and masks: the first steps of a run, and what reads them."""

import gc
import json
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import anndata
import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts import covariate_names
from miracle_lib.cohorts.by_site import new_file, read_part, site_blocks
from miracle_lib.cohorts.merge import enter_values, merge_tables
from miracle_lib.errors import MiracleError
from miracle_lib.files import safe_name
from miracle_lib.hierarchy import ArrayAnnotation, Hierarchy
from miracle_lib.pipeline.inputs import (
    cell_reference,
    load_annotation,
    load_cohorts,
    optional_table,
    simulate,
)
from miracle_lib.pipeline.run import Run, step
from miracle_lib.preprocessing import (
    Survey,
    estimate_cell_fractions,
    is_blood,
    quality_control,
    survey_values,
)
from miracle_lib.preprocessing.report import SUMMARY
from miracle_lib.progress import progress
from miracle_lib.samples import Samples

_log = logging.getLogger(__name__)


@step(reads=("cohorts", "array"))
def cohorts(run: Run, folder: Path) -> None:
    """Read or simulate each cohort, as it comes."""
    write_cohorts(load_cohorts(run.profile, run.parameters.seed, run.mirror), folder)


def write_cohorts(found: Iterable[AnnData], folder: Path) -> None:
    """Write each cohort to a file of its name, one by one."""
    for adata in found:
        adata.write_h5ad(folder / f"{safe_name(_cohort_name(adata))}.h5ad")
        gc.collect()  # an AnnData refers to itself: nothing else frees its values


@step(reads=("array", "gene_sets", "titles"))
def annotation(run: Run, folder: Path) -> None:
    """Read or simulate the array annotation and the gene sets."""
    site_gene, mask, validation = load_annotation(run.profile, run.parameters.seed, run.mirror)
    site_gene.to_parquet(folder / "site_gene.parquet")
    (folder / "mask.json").write_text(json.dumps(mask))
    (folder / "validation.json").write_text(json.dumps(validation))
    if run.profile.simulated:
        truth = simulate(run.profile, run.parameters.seed).truth
        for name in ("pathways", "genes", "sites"):
            getattr(truth, name).to_csv(folder / f"truth_{name}.csv")


@step(reads=("quality", "cell_reference", "merging"), after=("cohorts",))
def samples(run: Run, folder: Path) -> None:
    """Control the quality of each cohort, then merge them into one table of samples."""
    control(run, "cohorts", folder)


def control(run: Run, source: str, folder: Path) -> None:
    """Control the quality of the cohorts that a step has read, and merge them."""
    spec = run.profile.annotation
    masks = optional_table(spec.probe_masks if spec else None, run.mirror)
    named = spec.cell_reference if spec else {}
    references = {str(array): cell_reference(name, run.mirror) for array, name in named.items()}
    raw = list(raw_cohorts(run, source))
    kept, reports = [], []
    for adata in progress(raw, "quality control"):
        part, found = _controlled(adata.to_memory(), masks, references)
        kept.append(part)
        reports += found
        gc.collect()
    pd.concat(reports, ignore_index=True).to_csv(folder / "report.csv")
    Y, obs, sites = merge_tables(kept, run.profile.sites)
    texts = obs.select_dtypes(object).columns  # h5ad holds a text with gaps as a category only
    obs = obs.astype(dict.fromkeys(texts, "category"))
    about = AnnData(obs=obs, var=pd.DataFrame(index=sites), obsm={"tasks": Y})
    filled = 0
    with new_file(folder / "samples.h5ad", about) as values:
        for adata, part in zip(progress(raw, "merging"), kept, strict=True):
            # What failed detection was set missing when it was read: quality control changes no
            # value, it only leaves some out.
            passed = read_part(adata, samples=part.obs_names, sites=part.var_names)
            filled = enter_values(values, passed, obs.index, sites, filled)
            gc.collect()


def _controlled(
    adata: AnnData, masks: pd.DataFrame | None, references: dict[str, pd.DataFrame]
) -> tuple[AnnData, list[pd.DataFrame]]:
    """What passes quality control of a cohort, without values, and the tables of its report."""
    found = _add_cell_fractions(adata, references) if references else []
    passed, report = quality_control(adata, probe_masks=masks)
    return AnnData(obs=passed.obs, var=passed.var[[]]), [report, *found]


def _add_cell_fractions(adata: AnnData, references: dict[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Estimate the cell fractions of blood, each sample with the reference of its array.

    Deposited fractions stay, other tissue gets none.

    Returns
    -------
    list of DataFrame
        Rows for the report of quality control: how many of a reference's sites there are.
    """
    name = _cohort_name(adata)
    if any(str(column).startswith("cell_") for column in adata.obs):
        _log.info("%s: cell fractions as deposited", name)
        return []
    if not all(map(is_blood, adata.obs["tissue"].astype(str))):
        _log.info("%s: no cell fractions, its tissue is not whole blood", name)
        return []
    estimates, rows = [], []
    for array, samples in adata.obs.groupby("platform", observed=True).groups.items():
        if array not in references:
            _log.warning("%s: no cell fractions, the profile has no reference for %s", name, array)
            continue
        found = estimate_cell_fractions(adata[samples], references[array])
        used, wanted = found.attrs["n_sites"], found.attrs["n_wanted"]
        _log.info(
            "%s: cell fractions of %s from %.0f%% of the reference's sites",
            name,
            array,
            100 * found.attrs["share_present"],
        )
        check = f"tell blood cells apart, {array}"
        rows.append((name, "site", check, "used", float("nan"), wanted, used, 0))
        if found.notna().any(axis=None):
            estimates.append(found)
    if estimates:
        fractions = pd.concat(estimates).reindex(adata.obs_names)
        adata.obs[fractions.columns] = fractions
    return [pd.DataFrame(rows, columns=SUMMARY)] if rows else []


@step(after=("samples",))
def survey(run: Run, folder: Path) -> None:
    """Look at all values once, for the pictures of chapter 1."""
    merged = merged_samples(run)
    survey_values(site_blocks(merged), merged.obs["cohort"].astype(object)).save(
        folder / "survey.npz"
    )


@step(uses=("min_genes", "max_genes"), after=("samples", "annotation"))
def hierarchy(run: Run, folder: Path) -> None:
    """Build the masks over the sites at hand."""
    _build_hierarchy(run, site_gene(run)).save(folder / "hierarchy.npz")


def _build_hierarchy(run: Run, pairs: pd.DataFrame) -> Hierarchy:
    """Hierarchy of some site-gene pairs over the sites of the run, within its size limits."""
    return Hierarchy.from_tables(
        pairs,
        mask_sets(run),
        sites=merged_samples(run).var_names,
        min_genes=run.parameters.min_genes,
        max_genes=run.parameters.max_genes,
    )


def _cohort_name(adata: AnnData) -> str:
    """Name of the one cohort that an AnnData holds."""
    names = adata.obs["cohort"].unique()
    if len(names) != 1:
        raise MiracleError(f"expected one cohort in a file, found {', '.join(map(str, names))}.")
    return str(names[0])


def raw_cohorts(run: Run, source: str = "cohorts") -> Iterator[AnnData]:
    """Cohorts of a step as they came, by name; their values stay on disk."""
    for path in sorted(run.folder(source).glob("*.h5ad")):
        yield anndata.read_h5ad(path, backed="r")


def site_gene(run: Run) -> pd.DataFrame:
    """Site-gene table of the array: columns site, gene, group."""
    return run.load("annotation", "site_gene.parquet", pd.read_parquet)


def mask_sets(run: Run) -> dict[str, list[str]]:
    """Gene sets that build the mask."""
    return run.load("annotation", "mask.json", _read_json)


def validation_sets(run: Run) -> dict[str, dict[str, list[str]]]:
    """Gene-set libraries that check the network, by title."""
    return run.load("annotation", "validation.json", _read_json)


def merged_samples(run: Run) -> AnnData:
    """All samples after quality control with all that is known; their values stay on disk."""
    return run.load("samples", "samples.h5ad", partial(anndata.read_h5ad, backed="r"))


def seen(run: Run) -> Survey:
    """What there is to see of all values."""
    cohort = merged_samples(run).obs["cohort"].astype(object)
    return run.load("survey", "survey.npz", lambda path: Survey.load(path, cohort))


def graph(run: Run) -> Hierarchy:
    """Hierarchy over the sites of the run."""
    return run.load("hierarchy", "hierarchy.npz", Hierarchy.load)


def mask_choices(run: Run) -> pd.DataFrame:
    """Size of the mask by the parts of a gene whose sites count: all, promoter, body.

    Returns
    -------
    DataFrame
        One row per choice: the share of sites that reach a pathway, genes, pathways; 0 where too
        few sites are left for any pathway.
    """
    sites = merged_samples(run).var_names
    bare = pd.DataFrame({"chromosome": "", "position": float("nan"), "reason": ""}, index=sites)
    array = ArrayAnnotation(site_gene(run), bare)
    rows = {}
    for name in ("all groups", "promoter", "body"):
        chosen = array if name == "all groups" else array.keep_groups(name)
        try:
            built = _build_hierarchy(run, chosen.site_gene)
        except MiracleError:  # which the whole annotation has not raised
            rows[name] = [0.0, 0, 0]
            continue
        rows[name] = [len(built.sites) / len(sites), len(built.genes), len(built.pathways)]
    columns = ["share of sites", "genes", "pathways"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def all_samples(run: Run) -> Samples:
    """All samples after quality control, with the covariates that a model may be conditioned on."""
    return run.load("samples", "", lambda _: as_samples(read_part(merged_samples(run))))


def samples_at(run: Run, sites: pd.Index | list[str]) -> Samples:
    """All samples after quality control, of their values only those of some sites."""
    return as_samples(read_part(merged_samples(run), sites=sites))


def samples_of_task(run: Run, task: str) -> Samples:
    """The samples labelled for a task, at all sites."""
    merged = merged_samples(run)
    labelled = merged.obs_names[merged.obsm["tasks"][task].notna()]
    return as_samples(read_part(merged, samples=labelled)).task(task)


def as_samples(adata: AnnData) -> Samples:
    """Samples with the covariates that a model may be conditioned on."""
    return Samples.from_anndata(adata, covariate_names(adata.obs))


def sample_table(run: Run) -> pd.DataFrame:
    """All columns that the cohorts have of their samples, and what quality control added."""
    obs = merged_samples(run).obs
    return obs.astype(dict.fromkeys(obs.select_dtypes("category").columns, object))


def _read_json(path: Path) -> dict:
    """Read a JSON file."""
    return json.loads(path.read_text())

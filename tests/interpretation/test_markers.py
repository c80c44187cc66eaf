from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from miracle_lib import MiracleError
from miracle_lib.interpretation import composition_panel, load_markers, marker_audit, panel_test
from miracle_lib.interpretation.markers import Marker, Panel

MARKERS = Path(__file__).parents[2] / "data_manifest" / "markers.yaml"


def panel(*markers, kind="disease", tasks=("RA",)):
    return Panel(name="P", tasks=tasks, kind=kind, tissue="blood", markers=markers)


def marker(**values):
    return Marker(direction="hypo", source="s", confidence="high", **values)


@pytest.fixture
def ranking():
    sites = [f"cg{i:08d}" for i in range(100)]
    return pd.Series(np.arange(100, 0, -1.0), index=sites)


def test_the_published_panels_are_complete_and_sourced():
    markers = load_markers(MARKERS)
    tasks = {task for p in markers.panels for task in p.tasks}
    assert {"SLE", "RA", "MS", "IBD", "Psoriasis", "T1D"} <= tasks
    assert {p.name for p in markers.panels if p.kind == "control"} == {
        "Inflammation (CRP)",
        "Smoking",
    }
    assert "cg06872964" in markers["SLE, interferon"].sites
    assert str(markers.sources["imgenberg2019"]) == "doi:10.3389/fimmu.2019.01686"


@pytest.mark.mirror
def test_every_published_site_is_on_the_array_under_its_gene(mirror):
    from miracle_lib.hierarchy import read_illumina_manifest

    array = read_illumina_manifest(mirror / "HumanMethylation450_15017482_v1-2.csv.gz")
    pairs = set(zip(array.site_gene["site"], array.site_gene["gene"], strict=True))
    genes = set(array.site_gene["gene"])
    for p in load_markers(MARKERS).panels:
        for m in p.markers:
            names = (m.gene, *m.aliases)
            if m.site:
                assert m.site in array.sites.index, m
                assert m.gene is None or any((m.site, name) in pairs for name in names), m
            else:
                assert genes.intersection(names), m


def test_a_site_is_ranked_filtered_or_not_measured(ranking):
    masks = pd.DataFrame({"snp": [True, False]}, index=["cg99999991", "cg00000004"])
    found = marker_audit(
        ranking,
        [panel(*(marker(site=s) for s in ("cg00000004", "cg99999991", "cg99999992")))],
        masks=masks,
        measured=["cg99999991"],
        direction=pd.Series({"cg00000004": 0.2}),
    ).set_index("site")
    assert found["status"].tolist() == ["ranked", "filtered out", "not measured"]
    assert found.loc["cg00000004", ["rank", "percentile"]].tolist() == [5, 95.5]
    assert found["masks"].tolist() == ["", "snp", ""]
    assert found.loc["cg00000004", ["observed", "agrees"]].tolist() == ["hyper", False]


def test_a_gene_takes_its_best_site_and_pays_for_the_choice(ranking):
    table = pd.DataFrame({"site": ranking.index[9::10], "gene": "G"})
    genes = [panel(marker(gene="NEW", aliases=("G",)), marker(gene="absent"))]
    found = marker_audit(ranking, genes, site_gene=table)
    assert found["site"][0] == "cg00000009"
    assert found["percentile"][0] == pytest.approx(100 * 0.905**10)
    assert found["status"].tolist() == ["ranked", "no site of this gene"]


def test_audit_keeps_the_panels_of_a_task_and_the_controls(ranking):
    panels = load_markers(MARKERS)
    names = set(marker_audit(ranking, panels, task="Rheumatoid arthritis")["panel"])
    assert {"RA, blood", "Smoking", "Inflammation (CRP)"} <= names
    assert "SLE, interferon" not in names


def test_panel_test_finds_a_panel_at_the_top(ranking):
    top = panel(*(marker(site=s) for s in ranking.index[:5]))
    found = panel_test(marker_audit(ranking, [top]), ranking).loc["P"]
    assert found["auc"] == 1
    assert found["p_value"] < 0.001
    assert found["best_rank"] == 1


def test_panel_test_does_not_take_the_best_of_many_sites_for_evidence():
    rng = np.random.default_rng(0)
    sites = pd.Index([f"cg{i:08d}" for i in range(1000)])
    ranking = pd.Series(rng.normal(size=1000), index=sites)
    genes = np.repeat([f"G{i}" for i in range(8)], 100)  # of a hundred sites each
    site_gene = pd.DataFrame({"site": sites[:800], "gene": genes})
    large = panel(*(marker(gene=gene) for gene in pd.unique(genes)))
    audit = marker_audit(ranking, [large], site_gene=site_gene)
    assert audit["rank"].max() < 50
    assert panel_test(audit, ranking).loc["P", "p_value"] > 0.05


def test_composition_panel_takes_the_sites_that_differ_between_cells():
    reference = pd.DataFrame(
        {"CD4T": [0.1, 0.5, 0.9], "Gran": [0.9, 0.5, 0.7]},
        index=["cg00000001", "cg00000002", "cg00000003"],
    )
    assert composition_panel(reference, 2).sites == ["cg00000001", "cg00000003"]


DAMAGED = """sources: {{s: {{doi: x, note: y}}}}
panels:
  - {{name: P, tasks: [], kind: control, tissue: blood, markers: [
      {{{}, direction: hypo, source: s, confidence: high}}]}}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {}\npanels: []\nextra: 1", "extra"),
        ("sources: {a: {note: x}}\npanels: []", "sources.a.*doi"),
        ("sources: [", "not valid YAML"),
        (DAMAGED.format("gene: 1-Mar"), "panels.0.markers.0: .*'1-Mar' is a gene name that Excel"),
        (DAMAGED.format("gene: A, aliases: [2-Sep]"), "panels.0.markers.0: .*'2-Sep' is a gene"),
        (DAMAGED.format("gene: 2023-03-01"), "panels.0.markers.0.gene is .*valid string"),
    ],
)
def test_refused_files(tmp_path, text, message):
    path = tmp_path / "markers.yaml"
    path.write_text(text)
    with pytest.raises(MiracleError, match=f"^markers.yaml, line .*{message}"):
        load_markers(path)


def test_refused_rankings(ranking):
    with pytest.raises(MiracleError, match="one number per site"):
        marker_audit(pd.Series([1.0, np.nan], index=["a", "b"]), [])

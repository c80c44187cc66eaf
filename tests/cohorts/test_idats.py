"""IDAT pairs that mepylome's own writer makes, with a manifest made by hand, read back."""

import builtins

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from miracle_lib.cli import app
from miracle_lib.cohorts import idats, load_cohort, read_idats, read_table
from miracle_lib.cohorts.idats import written_idats
from miracle_lib.errors import MiracleError

N_TWO, N_ONE, N_NEGATIVE = 30, 80, 60
NORMALISATION = ("NORM_A", "NORM_T", "NORM_C", "NORM_G")
SLIDE = "200925700125"


@pytest.fixture(scope="module")
def mepylome(tmp_path_factory):
    """The library with a cache of its own; it needs Python 3.12."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield pytest.importorskip("mepylome")


@pytest.fixture(scope="module")
def manifest(mepylome, tmp_path_factory):
    """Design II, design I of both colours, one site twice (as EPICv2 has them), and controls."""
    head = "IlmnID,Name,AddressA_ID,AlleleA_ProbeSeq,AddressB_ID,AlleleB_ProbeSeq,"
    rows = [head + "Infinium_Design_Type,Color_Channel,CHR,MAPINFO,Strand"]
    for i in range(N_TWO):
        site = f"cg{max(i, 1):08d}"  # probes 0 and 1 measure one site
        rows.append(f"{site}_{i},{site},{1000 + i},AAC,,,II,,1,{100 + i},F")
    for i in range(N_TWO, N_TWO + N_ONE):
        colour = ("Grn", "Red")[i % 2]
        site = f"cg{i:08d}"
        rows.append(f"{site},{site},{1000 + i},AAC,{2000 + i},AACG,I,{colour},1,{100 + i},F")
    rows.append("[Controls],,,,,,,,,,")
    kinds = ["NEGATIVE"] * N_NEGATIVE + [kind for kind in NORMALISATION for _ in range(10)]
    rows += [f"{3000 + i},{kind},Red,{kind} {i},,,,,,," for i, kind in enumerate(kinds)]
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "array.csv").write_text("Illumina\n" * 7 + "\n".join(rows) + "\n")
    return mepylome.Manifest(raw_path=folder / "array.csv", proc_path=folder / "read.csv.gz")


@pytest.fixture
def known(manifest, monkeypatch):
    """The command finds the manifest as it finds that of a true array: by the number of probes."""
    monkeypatch.setattr(idats, "_manifest", lambda array, path: manifest)


def write_pair(folder, name, seed=0, dim=()):
    """Write one array; the probes in ``dim`` are no brighter than the negative controls."""
    from mepylome.tests.write_idat import IdatWriter

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    two, one = np.arange(1000, 1000 + N_TWO), np.arange(1000 + N_TWO, 1000 + N_TWO + N_ONE)
    controls = 3000 + np.arange(N_NEGATIVE + 10 * len(NORMALISATION))
    ids = np.concatenate([two, one, one + 1000, controls]).astype("<i4")
    dark = np.isin(ids, controls[:N_NEGATIVE]) | np.isin(ids, dim)
    for colour in ("Grn", "Red"):
        bright = rng.integers(2000, 60000, len(ids))
        means = np.where(dark, rng.integers(100, 400, len(ids)), bright).astype("<u2")
        noise = {"std_dev": np.ones(len(ids), "<u2"), "n_beads": np.ones(len(ids), "<u1")}
        data = {"illumina_ids": ids, "probe_means": means, **noise}
        IdatWriter(folder / f"{name}_{colour}.idat", data)


def test_values_are_those_of_mepylome_alone_and_in_a_batch(mepylome, manifest, tmp_path):
    for seed, position in enumerate(("R01C01", "R02C01")):
        write_pair(tmp_path / "arrays", f"GSM{seed}_{SLIDE}_{position}", seed, dim=[1005])
    both = read_idats(tmp_path / "arrays", manifest=manifest)
    raw = mepylome.RawData(tmp_path / "arrays" / f"GSM1_{SLIDE}_R02C01", manifest=manifest)
    raw.green, raw.red = raw.green.astype(float), raw.red.astype(float)
    own = mepylome.MethylData(data=raw, prep="noob").betas.iloc[:, 0]
    found = both.to_df().iloc[1].drop("cg00000005")
    twice = own.pop("cg00000001")
    assert found["cg00000001"] == pytest.approx(twice.mean(), abs=1e-6)
    assert np.allclose(found[own.drop("cg00000005").index], own.drop("cg00000005"), atol=1e-6)
    (tmp_path / "alone").mkdir()
    for path in (tmp_path / "arrays").glob("GSM1_*"):
        path.rename(tmp_path / "alone" / path.name)
    alone = read_idats(tmp_path / "alone", manifest=manifest)
    assert np.array_equal(alone.X[0], both.X[1], equal_nan=True)
    assert both.obs["sentrix"].tolist() == [f"{SLIDE}_R01C01", f"{SLIDE}_R02C01"]


def test_what_is_no_brighter_than_the_negative_controls_is_missing(manifest, tmp_path):
    write_pair(tmp_path, "one", dim=[1005, 1006])
    adata = read_idats(tmp_path, manifest=manifest)
    dim = ["cg00000005", "cg00000006"]
    assert adata.to_df().isna().sum(axis=1).item() == 2
    assert adata[:, dim].to_df().isna().all(axis=None)
    p = adata.to_df("detection_p")
    assert (p[dim] > 0.01).all(axis=None)
    assert p.drop(columns=dim).max(axis=None) < 1e-6  # also where two probes sum beyond 65535
    assert adata.obs["call_rate"].item() == pytest.approx(1 - 2 / adata.n_vars)


def test_init_makes_a_cohort_with_slide_and_position(known, tmp_path):
    people = {"id": [], "Sentrix_ID": [], "Sentrix_Position": [], "state": []}
    for i in range(4):
        write_pair(tmp_path / "arrays", f"{SLIDE}_R0{i + 1}C01", seed=i)
        cells = (f"P{i}", SLIDE, f"R0{i + 1}C01", ("ill", "well")[i % 2])
        for column, cell in zip(people.values(), cells, strict=True):
            column.append(cell)
    pd.DataFrame(people).to_csv(tmp_path / "people.csv", index=False)
    words = ["init", str(tmp_path / "arrays"), str(tmp_path / "people.csv"), "--label", "state"]
    words += ["--case", "ill", "--control", "well", "--platform", "EPIC"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.stderr
    adata = load_cohort(tmp_path / "arrays.cohort.yaml")
    assert adata.obs_names.tolist() == ["P0", "P1", "P2", "P3"]
    assert adata.obs["slide"].unique().tolist() == [SLIDE]
    assert adata.obs["position"].tolist() == ["R01C01", "R02C01", "R03C01", "R04C01"]
    assert "detection_p" in anndata.read_h5ad(tmp_path / "arrays.h5ad").layers
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "arrays.h5ad is there already; --force replaces it." in again.stderr


def test_a_column_of_the_people_without_a_value_is_left_out(tmp_path, monkeypatch):
    obs = pd.DataFrame({"sentrix": f"{SLIDE}_R01C01", "call_rate": 1.0}, ["a", "b"])
    arrays = anndata.AnnData(np.full((2, 1), 0.5, np.float32), obs=obs)
    monkeypatch.setattr(idats, "read_idats", lambda folder: arrays)
    (tmp_path / "people.csv").write_text("id,state,note\na,ill,\nb,well,\n")
    with idats.written_idats(tmp_path / "arrays", tmp_path / "people.csv") as path:
        assert list(anndata.read_h5ad(path).obs) == ["state", "sentrix", "call_rate"]


def test_a_folder_is_a_table(known, tmp_path):
    write_pair(tmp_path, "anna")
    table = read_table(tmp_path)
    assert table.samples.tolist() == ["anna"]
    assert table.values.shape == (1, N_TWO + N_ONE - 1)


def test_bad_files_are_named(mepylome, manifest, tmp_path):
    write_pair(tmp_path, "one")
    with pytest.raises(MiracleError, match="one_Grn.idat is of an array that is not known"):
        read_idats(tmp_path)
    whole = (tmp_path / "one_Red.idat").read_bytes()
    (tmp_path / "one_Red.idat").write_bytes(whole[:500])
    with pytest.raises(MiracleError, match="one_Red.idat: damaged or no IDAT file"):
        read_idats(tmp_path, manifest=manifest)
    (tmp_path / "one_Grn.idat").write_text("no such thing")
    with pytest.raises(MiracleError, match="one_Grn.idat: damaged or no IDAT file"):
        read_idats(tmp_path, manifest=manifest)


def test_half_a_pair_and_no_pair_are_refused(tmp_path):
    with pytest.raises(MiracleError, match="no file is called"):
        read_idats(tmp_path)
    (tmp_path / "a_Grn.idat.gz").touch()
    with pytest.raises(MiracleError, match="a_Grn.idat.gz is half .* no a_Red.idat.gz"):
        read_idats(tmp_path)


def test_the_missing_extra_is_one_sentence(tmp_path, monkeypatch):
    for colour in ("Grn", "Red"):
        (tmp_path / f"a_{colour}.idat").touch()
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "mepylome":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MiracleError, match=r'pip install "miracle_lib\[idat\]"'):
        read_idats(tmp_path)


def test_a_folder_of_arrays_needs_a_table_of_samples(tmp_path):
    with (
        pytest.raises(MiracleError, match="needs a table of its samples"),
        written_idats(tmp_path, None),
    ):
        pass


@pytest.fixture
def two_arrays(tmp_path, monkeypatch):
    """A folder of two pairs as mepylome would read them, and a table of their samples."""
    names = [f"GSM{n}_{SLIDE}_R0{n}C01" for n in (1, 2)]
    (tmp_path / "arrays").mkdir()
    for name in names:
        for colour in ("Grn", "Red"):
            (tmp_path / "arrays" / f"{name}_{colour}.idat").touch()
    (tmp_path / "people.csv").write_text(f"id,state\n{names[0]},MS\n{names[1]},HC\n")
    values = pd.DataFrame([[0.1, 0.8], [0.3, 0.6]], names, ["cg1", "cg2"], np.float32)
    read = anndata.AnnData(values, obs=pd.DataFrame({"sentrix": [SLIDE, np.nan]}, names))
    monkeypatch.setattr(idats, "read_idats", lambda folder: read.copy())
    monkeypatch.setattr(idats, "_array", lambda path: "msa48")
    return tmp_path


def call_init(folder, *options):
    command = ["init", str(folder / "arrays"), str(folder / "people.csv"), "--label", "state"]
    return CliRunner().invoke(app, [*command, *options])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--case", "MS"], "the array is 'MSA'; expected one of 27K, 450K, EPIC, EPICv2"),
        (["--case", "RA", "--platform", "EPIC"], "no sample with data has the state 'RA'"),
    ],
)
def test_a_refused_init_leaves_nothing_behind(two_arrays, options, message):
    before = sorted(two_arrays.iterdir())
    answer = call_init(two_arrays, *options)
    assert answer.exit_code == 1
    assert message in answer.stderr
    assert sorted(two_arrays.iterdir()) == before
    answer = call_init(two_arrays, "--case", "MS", "--platform", "EPIC")
    assert answer.exit_code == 0, answer.stderr
    made = {path: path.read_bytes() for path in two_arrays.iterdir() if path.is_file()}
    assert two_arrays / "arrays.h5ad" in made
    assert call_init(two_arrays, *options, "--force").exit_code == 1
    assert {path: path.read_bytes() for path in two_arrays.iterdir() if path.is_file()} == made

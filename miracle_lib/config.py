"""What a run is made of: parameters and profiles, typed and checked before any work starts."""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from miracle_lib.cohorts.simulated_hospital import Hospital
from miracle_lib.errors import MiracleError
from miracle_lib.manifest import Strict, read_manifest
from miracle_lib.resources import INSTALLED, MANIFEST, ROOT


class Parameters(Strict):
    """Parameters of a run; each stands in the ``parameters`` cell of the notebooks that use it.

    Attributes
    ----------
    profile : str
        Name of a profile in ``data_manifest/profiles`` or the path of a YAML file.
    run_dir : str
        Folder of the run; see :func:`run_folder`.
    seed : int
        Seed of everything random.
    selection : {"none", "ttest", "variance"}
        How sites are chosen inside each training fold; ``n_sites`` of them per task.
    min_genes, max_genes : int
        Gene sets outside these sizes (genes reached by the sites) are left out of the mask;
        ``min_genes`` is at most ``max_genes``.
    n_folds, n_repeats : int
        Cross-validation: folds and repeats.
    weighting : str
        Task-weighting policy by its registered name.
    grid : {"small", "full"}
        Size of the ablations, of the controls and of the simulations of the open questions.
    paper_epochs : int
        Epochs of each stage of the paper's network, whose own are 800.
    top_sites : int
        Sites per task that the over-representation tests call significant.
    q_threshold : float
        False discovery rate under which a pathway or gene set is named.
    device : str
        ``auto``, ``cpu``, ``mps`` or a CUDA device that this machine has.
    """

    model_config = ConfigDict(strict=True)

    profile: str = "demo"
    run_dir: str = "runs/demo"
    seed: int = Field(0, ge=0, lt=2**32)
    selection: Literal["none", "ttest", "variance"] = "none"
    n_sites: int = Field(1000, ge=1)
    min_genes: int = Field(5, ge=1)
    max_genes: int = Field(500, ge=1)
    n_folds: int = Field(5, ge=2, le=50)
    n_repeats: int = Field(1, ge=1, le=100)
    weighting: str = "pwinval"
    grid: Literal["small", "full"] = "small"
    paper_epochs: int = Field(20, ge=1)
    top_sites: int = Field(100, ge=1)
    q_threshold: float = Field(0.05, gt=0, le=1)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")

    @field_validator("weighting")
    @classmethod
    def _registered(cls, name: str) -> str:
        from miracle_lib.model.weighting import POLICIES  # loads torch

        if name not in POLICIES:
            raise ValueError(f"one of {', '.join(sorted(POLICIES))}")
        return name

    @field_validator("device")
    @classmethod
    def _present(cls, name: str) -> str:
        if name not in ("auto", "cpu") and name not in (found := _accelerators()):
            raise ValueError(f"a device of this machine: {', '.join(['auto', 'cpu', *found])}")
        return name


class SimulationSpec(Strict):
    """Simulated cohorts; the names are those of :func:`miracle_lib.simulate_cohorts`."""

    sizes: dict[str, int]
    n_sites: int = 2000
    n_planted: int = 5
    shared: float = 0.4
    effect: float = 0.3
    outside: float = 0.0
    missing: float = 0.01
    cohort_effect: float = 0.4
    null: bool = False
    hospitals: dict[str, list[Hospital]] = Field(default_factory=dict)


class AnnotationSpec(Strict):
    """Where genes and pathways come from: names of ``annotation.yaml`` or paths of files.

    What has a folder or an ending is a path and belongs to the folder of the profile. Means of
    sorted blood cells are named for each array.
    """

    array: str = "illumina_450k"
    mask: str
    validation: dict[str, str] = Field(min_length=1)
    probe_masks: str | None = None
    cell_reference: dict[Literal["27K", "450K", "EPIC", "EPICv2", "MSA"], str] = Field(
        default_factory=dict
    )


class Profile(Strict):
    """What a run works on: simulated or real cohorts, their annotation, and default parameters.

    Paths belong to the folder of the profile. ``external`` cohorts are seen by chapter 8 alone,
    which tests models of the others on them.
    """

    title: str
    simulation: SimulationSpec | None = None
    cohorts: list[str] = Field(default_factory=list)
    external: list[str] = Field(default_factory=list)
    annotation: AnnotationSpec | None = None
    sites: Literal["union", "intersection"] = "union"
    allow_subset: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind_of_cohort(self) -> "Profile":
        if (self.simulation is None) == (not self.cohorts):
            raise ValueError("give either 'simulation' or a list of 'cohorts'")
        if self.cohorts and self.annotation is None:
            raise ValueError("real 'cohorts' need an 'annotation'")
        if self.external and not self.cohorts:
            raise ValueError("'external' cohorts need 'cohorts'; a simulation has 'hospitals'")
        if both := {*self.external} & {*self.cohorts}:
            raise ValueError(f"{min(both)} is among 'cohorts' and 'external'; expected one of them")
        return self

    @property
    def simulated(self) -> bool:
        """Whether the cohorts are simulated."""
        return self.simulation is not None

    @property
    def sources(self) -> AnnotationSpec:
        """The annotation, which real cohorts always have."""
        if self.annotation is None:
            raise MiracleError(f"the profile of {self.title} has no 'annotation'.")
        return self.annotation

    def placed(self, folder: Path) -> "Profile":
        """Return the profile with every path taken from ``folder``; names stay names."""
        changed: dict[str, Any] = {
            key: [_placed(name, folder) for name in getattr(self, key)]
            for key in ("cohorts", "external")
        }
        if self.annotation is not None:
            sources = self.annotation.model_dump()
            given: dict[str, Any] = {
                key: {title: _placed(name, folder) for title, name in value.items()}
                if isinstance(value, dict)
                else _placed(value, folder)
                for key, value in sources.items()
                if value
            }
            changed["annotation"] = AnnotationSpec(**given)
        return self.model_copy(update=changed)


def _placed(name: str, folder: Path) -> str:
    """A path is taken from a folder; a name, which has no ending, stays."""
    is_path = bool(Path(name).suffix) or len(Path(name).parts) > 1
    return str(folder / Path(name).expanduser()) if is_path else name


def _accelerators() -> list[str]:
    """Devices of this machine besides the processor, by the names that torch gives them."""
    import torch

    cuda = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found = cuda if torch.cuda.is_available() else []
    return [*found, *(["mps"] if torch.backends.mps.is_available() else [])]


def _allowed(field: FieldInfo) -> str:
    """Say in words what a field takes."""
    if choices := get_args(field.annotation):
        return "one of " + ", ".join(str(choice) for choice in choices)
    name: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        str: "a text",
        bool: "true or false",
    }
    limits = [f"{key} {value}" for item in field.metadata for key, value in _limits(item)]
    return " ".join([name[field.annotation], *limits])


def _limits(item: Any) -> list[tuple[str, Any]]:
    """Bounds that one piece of pydantic metadata sets."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "pattern": "like"}
    found = [(word, getattr(item, key, None)) for key, word in words.items()]
    return [(word, value) for word, value in found if value is not None]


def _parameter_error(error: ValidationError) -> MiracleError:
    """Turn the first complaint about parameters into one sentence."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = ", ".join(Parameters.model_fields)
        return MiracleError(f"parameter '{name}' is not known; known are {known}.")
    own = first["type"] == "value_error"
    allowed = str(first["ctx"]["error"]) if own else _allowed(Parameters.model_fields[name])
    return MiracleError(f"parameter '{name}' is {first['input']!r}; expected {allowed}.")


def check_parameters(values: dict[str, Any]) -> Parameters:
    """Check typed values, as they come from a notebook or from a profile and a command line.

    Raises
    ------
    MiracleError
        An unknown name, a value that is not allowed, named with what is, or two values that do
        not go together.

    Examples
    --------
    >>> check_parameters({"seed": 3}).seed
    3
    """
    parameters = _check_each(values)
    least, most = parameters.min_genes, parameters.max_genes
    if least > most:
        raise MiracleError(
            f"parameter 'min_genes' is {least}; expected at most 'max_genes', which is {most}."
        )
    return parameters


def _check_each(values: dict[str, Any]) -> Parameters:
    """Check every value by itself: others may follow from elsewhere."""
    try:
        return Parameters(**values)
    except ValidationError as error:
        raise _parameter_error(error) from None


def parse_parameters(texts: list[str]) -> dict[str, Any]:
    """Read ``key=value`` texts from a command line into typed values.

    Raises
    ------
    MiracleError
        A text without ``=``, an unknown name or a value that does not fit.

    Examples
    --------
    >>> parse_parameters(["seed=3", "q_threshold=1e-2"])
    {'seed': 3, 'q_threshold': 0.01}
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise MiracleError(f"parameter '{text}' has no value; expected key=value.")
        pairs[name.strip()] = value.strip()
    try:
        parsed = Parameters.model_validate_strings(pairs, strict=False)
    except ValidationError as error:
        raise _parameter_error(error) from None
    return {name: getattr(parsed, name) for name in pairs}


def profile_path(name: str) -> Path:
    """Return the file of a profile given by name or by path.

    Raises
    ------
    MiracleError
        No such profile; the known names are listed.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = MANIFEST / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(item.stem for item in (MANIFEST / "profiles").glob("*.yaml")))
        raise MiracleError(
            f"profile '{name}' was not found; expected a YAML file or one of: {known}."
        )
    return path


def run_folder(run_dir: str | Path) -> Path:
    """Absolute path of the folder of a run.

    Parameters
    ----------
    run_dir : str or Path
        A relative one belongs to the current folder; inside a clone, to the top of the clone, so
        that a notebook finds the same run whether it is executed there or in its own folder.

    Examples
    --------
    >>> run_folder("runs/demo").is_absolute()
    True
    """
    here = Path.cwd()
    in_clone = not INSTALLED and here.is_relative_to(ROOT)
    return ((ROOT if in_clone else here) / run_dir).resolve()


def load_profile(name: str) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    name : str
        A name in ``data_manifest/profiles`` or the path of a YAML file.

    Raises
    ------
    MiracleError
        No such file, not YAML, or a wrong key or value, named with the file.

    Examples
    --------
    >>> load_profile("demo").simulated
    True
    """
    path = profile_path(name)
    profile = read_manifest(path, Profile)
    for key in ("profile", "run_dir"):
        if key in profile.parameters:
            raise MiracleError(f"{path.name}: 'parameters.{key}' is set by the command, not here.")
    try:
        _check_each(profile.parameters)
    except MiracleError as error:
        raise MiracleError(f"{path.name}: {error}") from None
    return profile.placed(path.absolute().parent)

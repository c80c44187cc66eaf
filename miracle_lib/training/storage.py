"""A trained model on disk: safetensors for numbers, JSON for the rest, no pickle."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.manifest import Strict
from miracle_lib.preprocessing.sex import SexReference

FORMAT: Literal["miracle model"] = "miracle model"
VERSION: Literal[3] = 3

Names = list[str]


class Coding(Strict):
    """What `CovariateCoder` learned."""

    cohorts: Names
    levels: dict[str, Names]
    mean: dict[str, float]
    sd: dict[str, float]


class HeldOut(Strict):
    """Scores of samples by models that had not seen them; one entry per sample and task."""

    task: Names
    cohort: Names
    label: list[Literal[0, 1]]
    score: list[Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len({len(self.task), len(self.cohort), len(self.label), len(self.score)}) > 1:
            raise ValueError("not as many tasks, cohorts, labels and scores")
        return self


class CohortCard(Strict):
    """A cohort that a model was trained on."""

    name: str
    task: str
    tissue: str
    platform: str
    cases: int
    controls: int


class Card(Strict):
    """What is known of a model's training beyond its numbers.

    Attributes
    ----------
    simulated : bool
        Whether the cohorts were simulated: such a model says nothing of patients.
    cohorts : list of CohortCard
    """

    simulated: bool
    cohorts: list[CohortCard]


class About(Strict):
    """The part of a saved model that is no array; checked when it is read.

    Attributes
    ----------
    parameters : dict
        Of the estimator, without its hierarchy.
    tasks, cohorts, columns, blocks : list of str
        Names of the axes of the arrays; ``columns`` are the sites of the training table.
    cohorts_of : dict of str to list of str
        Cohorts each task was trained on.
    named : bool
        Whether the training table named its sites.
    classes : list, optional
        The two classes, after a fit on a vector.
    covariates : Coding
    sharing : float
    fine_tuned : list of bool
    history : list of dict
    held_out : HeldOut, optional
    sex : SexReference, optional
    card : Card, optional
    """

    format: Literal["miracle model"] = FORMAT
    version: Literal[3] = VERSION
    parameters: dict[str, Any]
    tasks: Names
    cohorts: Names
    cohorts_of: dict[str, Names]
    columns: Names
    named: bool
    classes: list[str | bool | int | float] | None
    covariates: Coding
    blocks: Names
    sharing: float
    fine_tuned: list[bool]
    history: list[dict[str, str | int | float | None]]
    held_out: HeldOut | None = None
    sex: SexReference | None = None
    card: Card | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("tasks", "cohorts", "columns", "blocks"):
            names = getattr(self, name)
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{name} are not unique names")
        if sorted(self.cohorts_of) != sorted(self.tasks):
            raise ValueError("cohorts_of does not name the tasks")
        absent = set().union(*self.cohorts_of.values(), self.covariates.cohorts) - set(self.cohorts)
        if absent or not all(self.cohorts_of.values()):
            raise ValueError("a task has no cohort, or one that is not known")
        if self.covariates.mean.keys() != self.covariates.sd.keys():
            raise ValueError("covariates have not both mean and sd")
        if self.classes is not None and (len(self.classes), len(self.tasks)) != (2, 1):
            raise ValueError("classes are not two, or there are several tasks")
        return self


def save_model(
    path: str | Path, about: About, tensors: dict[str, Tensor], hierarchy: Hierarchy
) -> None:
    """Write a folder; one of the same name is replaced only when the new one is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not (path / "model.json").exists():
        raise MiracleError(f"{path} exists and is no saved model; it is not overwritten")
    temporary, old = (path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}") for _ in range(2))
    temporary.mkdir()
    try:
        hierarchy.save(temporary / "hierarchy.npz")
        (temporary / "model.json").write_text(about.model_dump_json(indent=2) + "\n", "utf-8")
        weights = temporary / "weights.safetensors"
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, weights)
        # Readable by whom the other files are readable by.
        weights.chmod((temporary / "model.json").stat().st_mode)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_about(path: str | Path) -> About:
    """Return the description of a saved model.

    Raises
    ------
    MiracleError
        If the folder is absent, holds no model, one of another version, or a damaged one.
    """
    file = Path(path) / "model.json"
    if not file.is_file():
        raise MiracleError(f"{path} holds no saved model: {file.name} is absent")
    try:
        about = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise MiracleError(f"{file} is damaged: it is not JSON") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise MiracleError(f"{file} is damaged: it does not describe a model")
    if about.get("version") != VERSION:
        raise MiracleError(
            f"{file} is {FORMAT!r} version {about.get('version')}; this program reads version "
            f"{VERSION}"
        )
    try:
        return About.model_validate(about)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise MiracleError(f"{file} is damaged: {place}: {first['msg']}") from None


def load_model(path: str | Path) -> tuple[About, dict[str, Tensor], Hierarchy]:
    """Read what `save_model` wrote.

    Raises
    ------
    MiracleError
        As `read_about`, or if a file is damaged.
    """
    about, path = read_about(path), Path(path)
    file = path / "weights.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise MiracleError(f"{file} cannot be read: {error}") from None
    return about, tensors, Hierarchy.load(path / "hierarchy.npz")

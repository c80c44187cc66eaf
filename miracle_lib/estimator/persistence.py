"""A fitted classifier on disk, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from miracle_lib.estimator.prediction import BLOCKS, take_device
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.training import Member, Prior
from miracle_lib.training.inputs import CovariateCoder
from miracle_lib.training.storage import load_model, read_about, save_model

if TYPE_CHECKING:
    from miracle_lib.estimator.classifier import MiracleClassifier


def write(model: MiracleClassifier, path: str | Path) -> None:
    """Write a fitted model; see `MiracleClassifier.save`."""
    skip = ("hierarchy", "checkpoint_dir", "checkpoint_every", "progress")
    parameters = model.get_params(deep=False)
    about = {
        "parameters": {name: parameters[name] for name in parameters if name not in skip},
        "tasks": model.tasks_,
        "cohorts": model.standardizer_.cohorts_,
        "cohorts_of": model._cohorts_of,
        "columns": list(model._columns),
        "named": hasattr(model, "feature_names_in_"),
        "classes": _plain_classes(model),
        "residual_sites": list(model.residual_sites_),
        "covariates": vars(model._coder),
        "sharing": model.prior_.sharing,
        "fine_tuned": model.fine_tuned_,
        "history": json.loads(model.history_.to_json(orient="records", double_precision=15)),
    }
    tensors = {
        "mean": torch.from_numpy(model.standardizer_.mean_.to_numpy()),
        "sd": torch.from_numpy(model.standardizer_.sd_.to_numpy()),
        "prior_scale": torch.from_numpy(model.prior_.scale),
        "ceiling": torch.from_numpy(model.ceiling_.to_numpy()),
        "block_share": torch.from_numpy(model.block_share_.to_numpy()),
    }
    for index, name in enumerate(model.standardizer_.cohorts_):
        tensors[f"held_out.{index}"] = torch.from_numpy(model.held_out_distances_[name])
    for index, member in enumerate(model.members_):
        tensors |= {f"{index}.{key}": value for key, value in member.state_dict().items()}
    save_model(path, about, tensors, model.hierarchy_)


def read(cls: type[MiracleClassifier], path: str | Path) -> MiracleClassifier:
    """Read a model that `write` wrote; see `MiracleClassifier.load`."""
    about, tensors, hierarchy = load_model(path)
    parameters = about["parameters"]
    for name in ("epochs", "learning_rate"):
        if parameters[name] is not None:
            parameters[name] = tuple(parameters[name])
    model = cls(hierarchy, **parameters)
    model.hierarchy_, model.tasks_ = hierarchy, about["tasks"]
    model._cohorts_of, model.fine_tuned_ = about["cohorts_of"], about["fine_tuned"]
    model.residual_sites_ = pd.Index(about["residual_sites"], dtype=object)
    model.sites_ = hierarchy.sites.append(model.residual_sites_)
    model._columns = pd.Index(about["columns"], dtype=object)
    model.n_features_in_ = len(model._columns)
    if about["named"]:
        model.feature_names_in_ = model._columns.to_numpy(dtype=object)
    if about["classes"] is not None:
        model.classes_ = np.array(about["classes"])
    statistics = (
        pd.DataFrame(tensors[name].numpy(), about["cohorts"], model.sites_)
        for name in ("mean", "sd")
    )
    model._set_statistics(CohortStandardizer(scale=model.scale), *statistics)
    model.held_out_distances_ = {
        name: tensors[f"held_out.{index}"].numpy() for index, name in enumerate(about["cohorts"])
    }
    model._coder = CovariateCoder(**about["covariates"])
    model.prior_ = Prior(tensors["prior_scale"].numpy(), about["sharing"])
    model.ceiling_ = pd.Series(tensors["ceiling"].numpy(), model.tasks_)
    model.block_share_ = pd.DataFrame(tensors["block_share"].numpy(), model.tasks_, list(BLOCKS))
    model.history_ = pd.DataFrame(about["history"])
    model.members_ = [_member(model, tensors, index) for index in range(model.n_members)]
    return model


def _plain_classes(model: MiracleClassifier) -> list[Any] | None:
    """Return the two classes of a vector as JSON holds them."""
    return model.classes_.tolist() if hasattr(model, "classes_") else None


def _member(model: MiracleClassifier, tensors: dict[str, Tensor], index: int) -> Member:
    """Rebuild one network."""
    member = Member(
        model.hierarchy_,
        len(model.residual_sites_),
        len(model.tasks_),
        model._coder.width,
        seed=0,
        **model._network_options(),
    )
    start = f"{index}."
    member.load_state_dict(
        {key.removeprefix(start): v for key, v in tensors.items() if key.startswith(start)}
    )
    return member.to(take_device(model.device)).eval()


def describe_model(model_path: str | Path) -> str:
    """Return what a saved model holds, as a few lines of text.

    Raises
    ------
    MiracleError
        If the folder holds no saved model.
    """
    about = read_about(model_path)
    hierarchy = Hierarchy.load(Path(model_path) / "hierarchy.npz")
    parameters = about["parameters"]
    units = parameters.get("head_units")  # absent in models saved before it was an option
    cohorts = "; ".join(f"{task} ({', '.join(c)})" for task, c in about["cohorts_of"].items())
    lines = {
        "tasks (cohorts)": cohorts,
        "sites": f"{len(hierarchy.sites):,} in the hierarchy, "
        f"{len(about['residual_sites']):,} residual",
        "genes": f"{len(hierarchy.genes):,}",
        "pathways": f"{len(hierarchy.pathways):,}",
        "networks": str(parameters["n_members"]),
        "heads": f"one hidden layer of {units} units" if units else "linear",
        "task weighting": parameters["weighting"],
        "sharing between tasks": f"{about['sharing']:.2f}",
        "least share of sites": f"{parameters['min_site_share']:.2f}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())

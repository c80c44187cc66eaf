"""A fitted classifier on disk, and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.estimator.distances import KINDS, Familiarity
from miracle_lib.estimator.options import Training
from miracle_lib.estimator.prediction import take_device
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import Heads
from miracle_lib.model.heads import HEADS
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.training import Member, Prior
from miracle_lib.training.storage import About, Coding, HeldOut, load_model, save_model

if TYPE_CHECKING:
    from miracle_lib.estimator.classifier import MiracleClassifier

log = logging.getLogger(__name__)


def write(model: MiracleClassifier, path: str | Path) -> None:
    """Write a fitted model; see `MiracleClassifier.save`."""
    parameters = model.get_params(deep=False)
    del parameters["hierarchy"]
    if model.training is not None:
        parameters["training"] = model.training.get_params()
    parameters = _plain(parameters)
    held_out, familiarity = model.held_out_, model.familiarity_
    about = About(
        parameters=parameters,
        tasks=model.tasks_,
        cohorts=model.standardizer_.cohorts_,
        cohorts_of=model._cohorts_of,
        columns=list(model._columns),
        named=hasattr(model, "feature_names_in_"),
        classes=model.classes_.tolist() if hasattr(model, "classes_") else None,
        covariates=Coding(**vars(model._coder)),
        blocks=list(model.block_share_),
        sharing=model.prior_.sharing,
        fine_tuned=model.fine_tuned_,
        history=json.loads(model.history_.to_json(orient="records", double_precision=15)),
        held_out=None if held_out is None else HeldOut(**held_out.to_dict("list")),
        sex=model.sex_,
        card=model.card_,
    )
    tensors = {
        "mean": torch.from_numpy(model.standardizer_.mean_.to_numpy()),
        "sd": torch.from_numpy(model.standardizer_.sd_.to_numpy()),
        "prior_scale": torch.from_numpy(model.prior_.scale),
        "ceiling": torch.from_numpy(model.ceiling_.to_numpy()),
        "block_share": torch.from_numpy(model.block_share_.to_numpy()),
        "activity_mean": torch.from_numpy(familiarity.mean.to_numpy()),
        "activity_sd": torch.from_numpy(familiarity.sd.to_numpy()),
    }
    for kind, by_cohort in familiarity.held_out.items():
        for index, name in enumerate(model.standardizer_.cohorts_):
            tensors[f"held_out.{kind}.{index}"] = torch.from_numpy(by_cohort[name])
    for index, member in enumerate(model.members_):
        tensors |= {f"{index}.{key}": value for key, value in member.state_dict().items()}
    save_model(path, about, tensors, model.hierarchy)


def read(
    cls: type[MiracleClassifier], path: str | Path, head: type[Heads] | None = None
) -> MiracleClassifier:
    """Read a model that `write` wrote; see `MiracleClassifier.load`."""
    about, tensors, hierarchy = load_model(path)
    own = about.parameters.get("head")
    if own is not None and own not in HEADS:
        if head is None or _class_name(head) != own:
            raise MiracleError(
                f"{path} has heads of the class {own}; give it, as in "
                f"MiracleClassifier.load(path, head={str(own).rpartition('.')[2]})"
            )
        about.parameters["head"] = head
    try:
        return _rebuilt(cls, about, tensors, hierarchy)
    except KeyError as error:
        raise MiracleError(f"{path} is damaged: {error.args[0]} is absent") from None
    except (MiracleError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise MiracleError(f"{path} is damaged: {reason}") from None


def _rebuilt(
    cls: type[MiracleClassifier], about: About, tensors: dict[str, Tensor], hierarchy: Hierarchy
) -> MiracleClassifier:
    """Put a model together of its parts; what does not fit is an error of some kind."""
    options = _with_tuples(about.parameters)
    if options["training"] is not None:
        options["training"] = Training(**options["training"])
    model = cls(hierarchy, **options)
    model._check_options()
    model.tasks_ = list(about.tasks)
    model._cohorts_of, model.fine_tuned_ = about.cohorts_of, about.fine_tuned
    model._keep_sites(pd.Index(about.columns, dtype=object), about.named)
    model._arrange_sites(model._columns)
    if about.classes is not None:
        model.classes_ = np.array(about.classes)
    cohorts, sites, tasks = about.cohorts, model.sites_, model.tasks_
    model.standardizer_ = CohortStandardizer.from_statistics(
        _table(tensors, "mean", cohorts, sites, gaps=True),
        _table(tensors, "sd", cohorts, sites, gaps=True),
        "beta" if model.design.scale == "raw" else model.design.scale,
    )
    pathways = model.hierarchy_.pathways
    model.familiarity_ = Familiarity(
        _table(tensors, "activity_mean", cohorts, pathways, gaps=True),
        _table(tensors, "activity_sd", cohorts, pathways, gaps=True),
        {
            kind: {
                name: _finite(tensors, f"held_out.{kind}.{index}").numpy()
                for index, name in enumerate(cohorts)
            }
            for kind in KINDS
        },
    )
    held_out = about.held_out
    model.held_out_ = None if held_out is None else pd.DataFrame(held_out.model_dump())
    model.sex_, model.card_ = about.sex, about.card
    model._coder = CovariateCoder(**about.covariates.model_dump())
    model.prior_ = Prior(_finite(tensors, "prior_scale").numpy(), about.sharing)
    model.ceiling_ = _table(tensors, "ceiling", tasks, None, gaps=True)
    model.block_share_ = _table(tensors, "block_share", tasks, about.blocks)
    model.history_ = pd.DataFrame(about.history)
    device = _device_here(model.device)
    model.members_ = [
        _member(model, tensors, index).to(device).eval() for index in range(model.n_members)
    ]
    return model


def _class_name(head: type[Heads]) -> str:
    """Return the name that a class of heads has in a saved model."""
    return f"{head.__module__}.{head.__qualname__}"


def _plain(value: Any) -> Any:
    """Return parameters as JSON holds them."""
    if isinstance(value, type):
        return _class_name(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _with_tuples(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters read from JSON, whose lists were tuples."""
    return {
        name: _with_tuples(value)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in parameters.items()
    }


def _finite(tensors: dict[str, Tensor], name: str) -> Tensor:
    """Refuse numbers that are not finite."""
    if not torch.isfinite(tensors[name]).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return tensors[name]


def _table(
    tensors: dict[str, Tensor], name: str, rows: Any, columns: Any, gaps: bool = False
) -> Any:
    """Return an array with names, a Series where there are no columns; NaN only where allowed."""
    values = tensors[name]
    shape = (len(rows),) if columns is None else (len(rows), len(columns))
    if values.shape != shape:
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected {shape}")
    if not gaps or torch.isinf(values).any():
        _finite(tensors, name)
    if name.endswith("sd") and (values <= 0).any():
        raise ValueError(f"{name} holds a number that is not positive")
    array = values.numpy()
    return pd.Series(array, rows) if columns is None else pd.DataFrame(array, rows, columns)


def _device_here(name: str) -> torch.device:
    """Return the device a model asks for, or the CPU where this machine lacks it."""
    try:
        return take_device(name)
    except MiracleError as error:
        log.warning("%s; the model is put on the CPU", error)
        return torch.device("cpu")


def _member(model: MiracleClassifier, tensors: dict[str, Tensor], index: int) -> Member:
    """Rebuild one network."""
    member = Member(
        model.hierarchy_,
        len(model.residual_sites_),
        len(model.tasks_),
        model._coder.width,
        seed=0,
        design=model.design,
    )
    start = f"{index}."
    state = {
        key.removeprefix(start): _finite(tensors, key) for key in tensors if key.startswith(start)
    }
    member.load_state_dict(state)
    return member

"""The policies by name."""

from collections.abc import Callable

from miracle_lib.errors import MiracleError
from miracle_lib.model.weighting.accuracy import InverseAccuracy
from miracle_lib.model.weighting.base import Weighting
from miracle_lib.model.weighting.cagrad import CAGrad
from miracle_lib.model.weighting.dro import LossShare
from miracle_lib.model.weighting.dwa import DynamicWeightAverage
from miracle_lib.model.weighting.famo import FAMO
from miracle_lib.model.weighting.gradnorm import GradNorm
from miracle_lib.model.weighting.mgda import MGDA
from miracle_lib.model.weighting.pcgrad import PCGrad
from miracle_lib.model.weighting.pwinval import PWInVal
from miracle_lib.model.weighting.random import Random
from miracle_lib.model.weighting.sample_size import InverseSampleSize
from miracle_lib.model.weighting.uncertainty import Uncertainty
from miracle_lib.model.weighting.uniform import Uniform

POLICIES: dict[str, type[Weighting]] = {
    policy.name: policy
    for policy in (
        InverseAccuracy,
        CAGrad,
        LossShare,
        DynamicWeightAverage,
        FAMO,
        GradNorm,
        MGDA,
        PCGrad,
        PWInVal,
        Random,
        InverseSampleSize,
        Uncertainty,
        Uniform,
    )
}


def register(name: str) -> Callable[[type[Weighting]], type[Weighting]]:
    """Make a policy of one's own known under a name (class decorator)."""

    def add(policy: type[Weighting]) -> type[Weighting]:
        policy.name = name
        POLICIES[name] = policy
        return policy

    return add


def make_weighting(name: str, n_tasks: int, seed: int = 0) -> Weighting:
    """Return a fresh policy by name.

    Raises
    ------
    MiracleError
        If no policy has this name.
    """
    if name not in POLICIES:
        raise MiracleError(f"weighting is {name!r}; expected one of {', '.join(sorted(POLICIES))}")
    return POLICIES[name](n_tasks, seed)

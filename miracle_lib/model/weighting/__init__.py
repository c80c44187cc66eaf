"""Task-weighting policies, one file each, known by name.

A policy of one's own is a subclass of `Weighting` with one method, registered by name.
"""

from miracle_lib.model.weighting.accuracy import InverseAccuracy
from miracle_lib.model.weighting.base import (
    POLICIES,
    Signals,
    Weighting,
    make_weighting,
    register,
)
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

__all__ = [
    "FAMO",
    "MGDA",
    "POLICIES",
    "CAGrad",
    "DynamicWeightAverage",
    "GradNorm",
    "InverseAccuracy",
    "InverseSampleSize",
    "LossShare",
    "PCGrad",
    "PWInVal",
    "Random",
    "Signals",
    "Uncertainty",
    "Uniform",
    "Weighting",
    "make_weighting",
    "register",
]

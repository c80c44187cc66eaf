"""Task-weighting policies, one file each, known by name.

A policy of one's own is a subclass of `Weighting` with one method, registered by name.
"""

from miracle_lib.model.weighting.base import Signals, Weighting
from miracle_lib.model.weighting.policies import POLICIES, make_weighting, register

__all__ = ["POLICIES", "Signals", "Weighting", "make_weighting", "register"]

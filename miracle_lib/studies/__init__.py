"""Studies of the model: ablations, first experiments, the paper's open questions."""

from miracle_lib.studies.ablations import Ablations, run_ablations
from miracle_lib.studies.first_experiments import reconstruction_curve, two_cohorts
from miracle_lib.studies.open_questions import (
    held_out_edges,
    hidden_effects,
    hidden_patterns,
    policy_table,
    site_curve,
)
from miracle_lib.studies.paper import by_change, by_protocol, paper_reproduced, verdicts
from miracle_lib.studies.replicates import mean_interval
from miracle_lib.studies.sharing import sharing_effects, sharing_sweep
from miracle_lib.studies.single_task import SingleTask
from miracle_lib.studies.variants import AblationGrid, load_ablations

__all__ = [
    "AblationGrid",
    "Ablations",
    "SingleTask",
    "by_change",
    "by_protocol",
    "held_out_edges",
    "hidden_effects",
    "hidden_patterns",
    "load_ablations",
    "mean_interval",
    "paper_reproduced",
    "policy_table",
    "reconstruction_curve",
    "run_ablations",
    "sharing_effects",
    "sharing_sweep",
    "site_curve",
    "two_cohorts",
    "verdicts",
]

"""Studies of the model: ablations, first experiments, open questions, another hospital."""

from miracle_lib.studies.ablations import Ablations, run_ablations
from miracle_lib.studies.another_hospital import (
    calibration_table,
    falls,
    hospital_scores,
    leave_one_cohort_out,
)
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
from miracle_lib.studies.small_cohorts import curve_means, learning_curve
from miracle_lib.studies.variants import AblationGrid, load_ablations

__all__ = [
    "AblationGrid",
    "Ablations",
    "SingleTask",
    "by_change",
    "by_protocol",
    "calibration_table",
    "curve_means",
    "falls",
    "held_out_edges",
    "hidden_effects",
    "hidden_patterns",
    "hospital_scores",
    "learning_curve",
    "leave_one_cohort_out",
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

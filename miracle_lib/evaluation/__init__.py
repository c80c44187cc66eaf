"""Honest evaluation: splits, metrics, baselines, comparison of methods, ablations, diagnostics."""

from miracle_lib.evaluation.ablations import (
    AblationGrid,
    Ablations,
    SingleTask,
    load_ablations,
    ranking_stability,
    run_ablations,
)
from miracle_lib.evaluation.baselines import BASELINES, PerTaskBaseline
from miracle_lib.evaluation.comparison import (
    compare_across_tasks,
    compare_methods,
    correlated_t,
    permutation_test,
    shuffle_labels,
)
from miracle_lib.evaluation.diagnostics import (
    active_units,
    cohort_leakage,
    failure_signs,
    reconstructed_share,
)
from miracle_lib.evaluation.grid import Cell, Data, run_grid
from miracle_lib.evaluation.metrics import METRICS, calibration_curve, score_task, summarise
from miracle_lib.evaluation.open_questions import (
    held_out_edges,
    hidden_effects,
    hidden_patterns,
    policy_table,
    site_curve,
)
from miracle_lib.evaluation.replicates import mean_interval
from miracle_lib.evaluation.sharing import sharing_effects, sharing_sweep
from miracle_lib.evaluation.splits import Fold, make_folds
from miracle_lib.evaluation.validation import cross_validate, evaluate_fold, scores_of

__all__ = [
    "BASELINES",
    "METRICS",
    "AblationGrid",
    "Ablations",
    "Cell",
    "Data",
    "Fold",
    "PerTaskBaseline",
    "SingleTask",
    "active_units",
    "calibration_curve",
    "cohort_leakage",
    "compare_across_tasks",
    "compare_methods",
    "correlated_t",
    "cross_validate",
    "evaluate_fold",
    "failure_signs",
    "held_out_edges",
    "hidden_effects",
    "hidden_patterns",
    "load_ablations",
    "make_folds",
    "mean_interval",
    "permutation_test",
    "policy_table",
    "ranking_stability",
    "reconstructed_share",
    "run_ablations",
    "run_grid",
    "score_task",
    "scores_of",
    "sharing_effects",
    "sharing_sweep",
    "shuffle_labels",
    "site_curve",
    "summarise",
]

"""Honest evaluation: splits, metrics, baselines, comparison of methods, diagnostics."""

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
    ranking_stability,
    reconstructed_share,
)
from miracle_lib.evaluation.grid import Cell, Data, run_grid
from miracle_lib.evaluation.metrics import (
    METRICS,
    calibration_curve,
    calibration_table,
    score_task,
    summarise,
)
from miracle_lib.evaluation.splits import Fold, make_folds
from miracle_lib.evaluation.validation import cross_validate, evaluate_fold, scores_of

__all__ = [
    "BASELINES",
    "METRICS",
    "Cell",
    "Data",
    "Fold",
    "PerTaskBaseline",
    "active_units",
    "calibration_curve",
    "calibration_table",
    "cohort_leakage",
    "compare_across_tasks",
    "compare_methods",
    "correlated_t",
    "cross_validate",
    "evaluate_fold",
    "failure_signs",
    "make_folds",
    "permutation_test",
    "ranking_stability",
    "reconstructed_share",
    "run_grid",
    "score_task",
    "scores_of",
    "shuffle_labels",
    "summarise",
]

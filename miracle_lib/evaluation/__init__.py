"""Honest scores: splits, metrics, comparison of methods."""

from miracle_lib.evaluation.baselines import BASELINES, PerTaskBaseline
from miracle_lib.evaluation.comparison import (
    compare_across_tasks,
    compare_methods,
    correlated_t,
    permutation_test,
    shuffle_labels,
)
from miracle_lib.evaluation.metrics import METRICS, calibration_curve, score_task, summarise
from miracle_lib.evaluation.splits import Fold, make_folds
from miracle_lib.evaluation.validation import cross_validate, evaluate_fold, scores_of

__all__ = [
    "BASELINES",
    "METRICS",
    "Fold",
    "PerTaskBaseline",
    "calibration_curve",
    "compare_across_tasks",
    "compare_methods",
    "correlated_t",
    "cross_validate",
    "evaluate_fold",
    "make_folds",
    "permutation_test",
    "score_task",
    "scores_of",
    "shuffle_labels",
    "summarise",
]

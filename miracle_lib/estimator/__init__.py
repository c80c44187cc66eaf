"""The scikit-learn estimator: beta values in, probabilities and pathway activities out."""

from miracle_lib.estimator.card import describe_model
from miracle_lib.estimator.classifier import MiracleClassifier
from miracle_lib.estimator.options import Training
from miracle_lib.estimator.reliability import predict
from miracle_lib.estimator.tables import predict_table
from miracle_lib.limits import Limits

__all__ = ["Limits", "MiracleClassifier", "Training", "describe_model", "predict", "predict_table"]

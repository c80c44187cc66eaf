"""A learner per pathway, then one over pathways: the idea of BioM2 (an R package), stacked."""

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline


def fit_predict(split: dict) -> tuple[np.ndarray, np.ndarray]:
    in_gene = np.zeros((split["z_train"].shape[1], len(split["mask"])), bool)
    in_gene[tuple(split["site_gene"].T)] = True
    in_pathway = in_gene.astype(int) @ split["mask"] > 0
    names = [str(j) for j in np.flatnonzero(in_pathway.any(axis=0))]
    stages = [(name, _on(np.flatnonzero(in_pathway[:, int(name)]))) for name in names]
    last = LogisticRegressionCV(Cs=5, cv=3, max_iter=500)
    model = StackingClassifier(stages, last, cv=3).fit(split["z_train"], split["y_train"])
    evidence = np.full(in_pathway.shape[1], np.nan)
    evidence[[int(name) for name in names]] = np.abs(model.final_estimator_.coef_[0])
    return model.predict_proba(split["z_test"])[:, 1], evidence


def _on(sites: np.ndarray) -> LogisticRegression:
    """Logistic regression that sees some sites."""
    chosen = ColumnTransformer([("sites", "passthrough", sites)])
    return make_pipeline(chosen, LogisticRegression(C=0.01, max_iter=500))

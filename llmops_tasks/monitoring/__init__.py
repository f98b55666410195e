"""Drift detection and the decision to retrain. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "measure_drift": "drift",  # one scored partition against the champion's test set
    "measure_drift_of_days": "drift",  # the same for several days
    "decide_retraining": "retrain",  # yes or no for one day, with reasons
    "decide_for_days": "retrain",  # the same for several days
    "first_retraining": "retrain",  # the first yes, as the event that starts retraining
}
__getattr__ = lazily(__name__, VERBS)

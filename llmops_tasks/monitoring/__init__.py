"""Whether the world has moved, and what follows. The room's verbs, each by its module; all else is private to the room."""

from llmops_tasks import lazily

VERBS = {
    "measure_drift": "drift",  # one answered day beside the champion's evaluation data
    "measure_drift_of_days": "drift",  # the same for several days
    "decide_retraining": "retrain",  # yes or no for one day, with reasons
    "decide_for_days": "retrain",  # the same for several days
    "first_retraining": "retrain",  # the first yes, as the event that starts retraining
}
__getattr__ = lazily(__name__, VERBS)

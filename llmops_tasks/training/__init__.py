"""Training: from a dataset to an adapter or weights; selection of the base model. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "fetch_base_model": "base_model",  # the base model, checked and kept once in the store
    "list_base_models": "selection",  # candidate base models whose licence is allowed
    "draw_sample": "selection",  # the records that they are measured on
    "measure_base_model": "selection",  # quality and cost of one of them
    "choose_base_model": "selection_policy",  # the choice, by the policy
    "report_selection": "selection",  # the choice as a page
    "find_mixed_datasets": "training_plan",  # the newest datasets of the use cases that `mix` and `domain` name
    "plan_trials": "search",  # the numbers of a search's trials
    "run_trial": "search",  # one trial
    "choose_trial": "search",  # the settings of the best trial
    "finetune": "finetuning",  # an adapter or weights, trained on records
    "collect_corrections": "corrections",  # pairs of a corrected and a given answer
    "tune_preferences": "preferences",  # an adapter, trained on such pairs
}
__getattr__ = lazily(__name__, VERBS)

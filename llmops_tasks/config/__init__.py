"""What a use case says: one YAML file, its shape by section, and how it is read.

usecase     the whole file, and its sections about task, prompt, evaluation, gate, batch and monitoring
data        from a source to a dataset
decoding    how answers of a generation are written
training    method, strategies, budget, search
selection   base models and the policy that chooses among them
checks      what the parts must be to each other, and how mistakes are put into words
loading     files to shapes
forms       which form is in charge: a run is bound to the one that it began with
kept        where valid forms are kept
"""

from llmops_tasks.config.data import Column, Data, Landing, Section, Source, Split, expand
from llmops_tasks.config.forms import bind, current, in_charge, keep, removed, retire
from llmops_tasks.config.loading import (
    POLICY,
    checked_date,
    json_schema,
    load,
    misnamed,
    policy,
    usecase_folder,
    usecase_name,
    usecase_names,
    usecase_path,
)
from llmops_tasks.config.training import Finetune, Search
from llmops_tasks.config.usecase import Gate, Limit, Monitoring, UseCase

__all__ = [
    "POLICY",
    "Column",
    "Data",
    "Finetune",
    "Gate",
    "Landing",
    "Limit",
    "Monitoring",
    "Search",
    "Section",
    "Source",
    "Split",
    "UseCase",
    "bind",
    "checked_date",
    "current",
    "expand",
    "in_charge",
    "json_schema",
    "keep",
    "load",
    "misnamed",
    "policy",
    "removed",
    "retire",
    "usecase_folder",
    "usecase_name",
    "usecase_names",
    "usecase_path",
]

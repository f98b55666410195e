"""Every verb can be reached by its name, and nothing else can."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from llmops_tasks import verbs
from llmops_tasks.errors import InputError
from tests.support.tiny import ROOT


@pytest.mark.parametrize("name", verbs.verbs())
def test_every_verb_of_the_tables_is_a_function_with_named_arguments(name: str) -> None:
    verb = verbs.resolve(name)
    kinds = {parameter.kind for parameter in inspect.signature(verb).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}
    assert inspect.getdoc(verb)


@pytest.mark.parametrize("name", verbs.PACKAGES)
def test_a_packages_table_names_functions_where_they_are(name: str) -> None:
    package = import_module(f"llmops_tasks.{name}")
    for verb, module in package.VERBS.items():
        assert getattr(package, verb) is getattr(import_module(f"llmops_tasks.{name}.{module}"), verb)
    with pytest.raises(AttributeError, match="has no verb 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize(
    "name",
    ["os:system", "data._rows", "store.objects.remove_folder", "data.ingestion.ingest", "../x", "data.ingst", "", "data",
     "data.VERBS", "tracking.send", "chain.chain"],
)  # fmt: skip
def test_nothing_outside_the_table_can_be_reached(name: str) -> None:
    with pytest.raises(InputError, match=r"No verb .* Known: \["):
        verbs.resolve(name)


def test_groups_and_their_members_are_all_verbs_but_those_without_a_group() -> None:
    named = {f"{group}.{member}" for group in verbs.groups() for member in verbs.members(group)}
    assert set(verbs.verbs()) - named == {"chain"}
    assert len(set(verbs.groups())) == len(verbs.groups())


@pytest.mark.parametrize("group", verbs.groups())
def test_a_groups_purpose_is_one_sentence(group: str) -> None:
    said = verbs.purpose(group)
    assert said[0].isupper() and said.count(".") == 1 and said.endswith(".") and "\n" not in said


def test_a_verb_is_found_without_the_other_packages() -> None:
    code = (
        "import sys; from llmops_tasks import verbs; verbs.resolve('data.ingest')\n"
        "assert 'llmops_tasks.data.ingestion' in sys.modules\n"
        "assert not {'llmops_tasks.release', 'llmops_tasks.data.dataset'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

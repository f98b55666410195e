"""Five kinds of data as they are found in the world, each read by its YAML alone.

The files are small look-alikes written here. A use case of a new kind is new YAML, never new code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.data import tables
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import build_dataset
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.store import artifacts

ALONE = {"by": "record", "order": "digest", "train": 0.6, "validation": 0.1, "test": 0.3}
Kind = tuple[dict[str, Any], bytes]


def _usecase(tmp_path: Path, name: str, data: dict[str, Any], content: bytes) -> str:
    (tmp_path / name).write_bytes(content)
    labels = data.pop("labels", None)
    task: dict[str, Any] = {"type": "generation"}
    gate: dict[str, Any] = {"metric": "token_f1", "limits": [{"metric": "exact_match", "at_least": 0.5}]}
    if labels:
        named = [{"name": word, "values": values, "text": f" {word}"} for word, values in labels.items()]
        task = {"type": "classification", "labels": named}
        gate = {"limits": [{"metric": "accuracy", "at_least": 0.5}]}
    raw = {
        "version": 1,
        "description": "A look-alike.",
        "owner": "tests",
        "task": task,
        "data": {
            "min_rows": 1,
            "split": ALONE,
            **data,
            "source": {"uri": f"file://{tmp_path}/{name}", **data["source"]},
        },
        "prompt": {"template": "{{ text }}\nAnswer:"},
        "base_model": {"uri": "file:///no-model", "licence": "none"},
        "gate": gate,
    }
    path = tmp_path / f"{name.partition('.')[0]}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return str(path)


def _cases() -> Kind:
    """A JSON object of label -> list of nested cases, whose keys differ from case to case."""
    document: dict[str, list[Any]] = {"Cardiology": [], "Neurology": [], "Empty": []}
    for number in range(40):
        label = ("Cardiology", "Neurology")[number % 2]
        history = {("relevant_PMH", "relevant PMH")[number % 3 == 0]: f"asthma {number}", "age": 20 + number}
        complaint = "pressing chest pain" if label == "Cardiology" else "numb left hand"
        case = {"presentation": {"chief complaint": f"{complaint} for {number} hours"}, "history": history}
        document[label].append(case if number % 5 else {**case, "history": {"age": None}})
    data = {
        "labels": {"heart": ["Cardiology"], "nerves": ["Neurology"]},
        "source": {"format": "json", "records": "*.item"},
        "columns": {
            "case": {"role": "id", "source": "_id", "required": True},
            "speciality": {"role": "label", "source": "_key", "required": True},
            "complaint": {"role": "input", "source": "presentation.chief complaint", "required": True},
            "past": {"role": "input", "source": ["history.relevant_PMH", "history.relevant PMH"]},
            "age": {"role": "input", "source": "history.age", "type": "number"},
        },
        "text": "{{ complaint }}{% if past is not none %}, {{ past }}{% endif %}",
    }
    return data, json.dumps(document, indent=1).encode()


def _sentences() -> Kind:
    """Tab-separated sentences and labels without a header; quotes do not pair, and U+0085 is a letter."""
    lines = [f'he said "it hurts {number} \x85 times\t{number % 2}' for number in range(40)]
    data = {
        "labels": {"no": ["0"], "yes": ["1"]},
        "source": {"delimiter": "\t", "quoting": "none", "header": ["sentence", "label"]},
        "columns": {
            "row": {"role": "id", "source": "_id", "required": True},
            "label": {"role": "label", "required": True},
            "sentence": {"role": "input", "required": True},
        },
        "text": "{{ sentence }}",
    }
    return data, "\n".join([*lines, ""]).encode()


def _masked() -> Kind:
    """A JSON list of texts, the same texts masked, and where the masks are."""
    records = [
        {
            "full_text": f"Call Ada Lovelace{number} today, not tomorrow.",
            "masked": "Call {{PERSON}} today, not tomorrow.",
            "spans": [{"entity_type": "PERSON", "start": 5, "end": 17 + len(str(number)), "score": 0.5}],
        }
        for number in range(40)
    ]
    data = {
        "source": {"format": "json"},
        "columns": {
            "row": {"role": "id", "source": "_id", "required": True},
            "full_text": {"role": "input", "required": True},
            "masked": {"role": "leakage", "required": True},
            "spans": {"role": "ignore"},
        },
        "text": "{{ full_text }}",
        "completion": "masked",
    }
    return data, json.dumps(records).encode()


def _words() -> Kind:
    """A JSON list of prompts in several scripts, each with a list of words and a category."""
    texts = [
        "\u6628\u5929\u5f00\u59cb\u53d1\u70e7",
        "\u0623\u0634\u0639\u0631 \u0628\u0623\u0644\u0645",
        "\u00e7a fait mal",
    ]
    records = [
        {"prompt": f"{texts[n % 3]} {n}", "word_list": [texts[n % 3][:2], "\u732b"], "category": ("a", "b")[n % 2]}
        for n in range(40)
    ]
    data = {
        "labels": {"first": ["a"], "second": ["b"]},
        "source": {"format": "json", "records": "item"},
        "columns": {
            "row": {"role": "id", "source": "_id", "required": True},
            "category": {"role": "label", "required": True},
            "prompt": {"role": "input", "required": True},
            "words": {"role": "input", "source": "word_list"},
        },
        "text": "{{ prompt }} {{ words }}",
    }
    return data, json.dumps(records, ensure_ascii=False).encode()


def _triage() -> Kind:
    """Semicolons, decimal commas, `??` for lost characters, cp1252, codes for words, half the vital signs empty."""
    header = "Group;Sex;Age;Chief_complain;SBP;BT;KTAS_expert"
    lines = [
        ";".join(
            ["1", str(1 + n % 2), str(20 + n), "??" if n % 10 == 9 else f"caf\u00e9 \u2013 pain {n}",
             "??" if n % 2 else str(100 + n), "" if n % 2 else f"36,{n % 10}", str(1 + n % 5)]
        )
        for n in range(40)
    ]  # fmt: skip
    data = {
        "labels": {"emergency": ["1", "2", "3"], "other": ["4", "5"]},
        "source": {"delimiter": ";", "decimal": ",", "encoding": "cp1252", "null_values": ["", "??"]},
        "max_quarantined": 0.5,
        "columns": {
            "row": {"role": "id", "source": "_id", "required": True},
            "level": {"role": "label", "source": "KTAS_expert", "required": True},
            "sex": {"role": "input", "source": "Sex", "words": {"1": "female", "2": "male"}},
            "age": {"role": "input", "source": "Age", "type": "number", "min": 0, "max": 120},
            "complaint": {"role": "input", "source": "Chief_complain", "required": True},
            "systolic": {"role": "input", "source": "SBP", "type": "number", "min": 20, "max": 300},
            "temperature": {"role": "input", "source": "BT", "type": "number", "min": 25, "max": 45},
        },
        "text": "{{ sex }}, {{ complaint }}",
    }
    return data, "\r\n".join([header, *lines, ""]).encode("cp1252")


KINDS: dict[str, tuple[Callable[[], Kind], dict[int, dict[str, Any]]]] = {
    "cases.json": (_cases, {
        0: {"speciality": "Cardiology", "complaint": "pressing chest pain for 0 hours", "past": None, "age": None},
        3: {"case": "cases.json#4", "past": "asthma 6", "age": "26"},
        21: {"case": "cases.json#22", "speciality": "Neurology", "past": "asthma 3"},
    }),
    "sentences.tsv": (_sentences, {
        7: {"row": "sentences.tsv#8", "label": "1", "sentence": 'he said "it hurts 7 \x85 times'},
    }),
    "masked.json": (_masked, {
        2: {"full_text": "Call Ada Lovelace2 today, not tomorrow.", "masked": "Call {{PERSON}} today, not tomorrow.",
            "spans": '[{"entity_type": "PERSON", "start": 5, "end": 18, "score": 0.5}]'},
    }),
    "words.json": (_words, {
        3: {"prompt": "\u6628\u5929\u5f00\u59cb\u53d1\u70e7 3", "words": '["\u6628\u5929", "\u732b"]', "category": "b"},
    }),
    "triage.csv": (_triage, {
        0: {"row": "triage.csv#1", "sex": "female", "systolic": "100", "temperature": "36.0", "level": "1"},
        1: {"sex": "male", "complaint": "caf\u00e9 \u2013 pain 1", "systolic": None, "temperature": None},
        9: {"complaint": None},
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_data_is_read_by_its_yaml_alone(tmp_path: Path, name: str) -> None:
    make, wanted = KINDS[name]
    usecase = _usecase(tmp_path, name, *make())
    records = ingest(usecase=usecase)
    rows = list(tables.rows(artifacts.fetch(records) / "records.parquet"))
    assert (records["rows"], records["meta"]["rejected"]) == (40, 0)
    for place, values in wanted.items():
        assert {column: rows[place][column] for column in values} == values
    assert ingest(usecase=usecase) == records
    clean = anonymize(usecase=usecase, records=validate(usecase=usecase, records=records))
    dataset = build_dataset(usecase=usecase, records=clean)
    assert sum(dataset["meta"]["splits"].values()) == dataset["rows"] > 20

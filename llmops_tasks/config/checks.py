"""Checks across a use case's sections, and the wording of its mistakes."""

from __future__ import annotations

import codecs
import datetime
import zoneinfo
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_args

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ValidationError

from llmops_tasks.contracts import BASELINES, METRICS, SELECTIVE, TEXT_METRICS
from llmops_tasks.errors import did_you_mean

if TYPE_CHECKING:
    from llmops_tasks.config.data import Data, Role
    from llmops_tasks.config.usecase import UseCase


def column_problems(usecase: UseCase) -> list[str]:
    """Everything about columns and templates that a single field cannot know, each as `path: problem`."""
    return [
        *_source_problems(usecase),
        *_role_problems(usecase),
        *_label_problems(usecase),
        *_text_problems(usecase),
        *_prompt_problems(usecase),
        *_chat_problems(usecase),
        *_watch_problems(usecase),
        *_search_problems(usecase),
        *_gate_problems(usecase),
        *_baseline_problems(usecase),
        *_generation_problems(usecase),
        *_schedule_problems(usecase),
    ]


def _source_problems(usecase: UseCase) -> Iterator[str]:
    sources = {"data.source": usecase.data.source} | ({"batch.source": usecase.batch.source} if usecase.batch else {})
    for path, source in sources.items():
        try:
            codecs.lookup(source.encoding)
        except LookupError:
            yield f"{path}.encoding: '{source.encoding}' is not a known encoding. Allowed: utf-8, latin-1, cp1252, ..."


def _order_problems(data: Data) -> Iterator[str]:
    needed: dict[Role, str] = {"id": ""}
    if data.split.by == "group":
        needed["group"] = " (or data.split.by: record)"
    if data.split.order == "time":
        needed["time"] = " (or data.split.order: digest)"
    roles: tuple[Role, ...] = ("id", "group", "time")
    for role in roles:
        if len(data.named(role)) != 1 and (role in needed or data.named(role)):
            yield (
                f"data.columns: exactly one column needs the role '{role}'{needed.get(role, '')}; "
                f"given: {data.named(role)}"
            )
    if data.source.incremental == "watermark" and not data.named("time"):
        yield "data.source.incremental: a watermark needs a column with the role 'time'; or use 'objects'"


def _role_problems(usecase: UseCase) -> Iterator[str]:
    data = usecase.data
    yield from _order_problems(data)
    if usecase.task.type == "classification" and len(data.named("label")) != 1:
        yield f"data.columns: exactly one column needs the role 'label'; given: {data.named('label')}"
    if usecase.task.type == "generation" and data.completion not in data.columns:
        yield f"data.completion: a generation task names its answer column; given: {data.completion!r}"
    for name, column in data.columns.items():
        if column.role == "time" and column.type != "timestamp":
            yield f"data.columns.{name}.type: a column with the role 'time' is a timestamp; given: {column.type}"
        if column.type != "number" and (column.min, column.max, column.cap) != (None, None, None):
            yield f"data.columns.{name}: min, max and cap are for numbers; the type is {column.type}"


def _label_problems(usecase: UseCase) -> Iterator[str]:
    """Texts that no model can distinguish."""
    known: dict[str, str] = {}
    for number, label in enumerate(usecase.task.labels):
        where, text = f"task.labels.{number}.text", label.text.strip()
        if not text:
            yield f"{where}: is empty; give '{label.name}' a text of at least one word"
        elif text in known:
            yield f"{where}: '{label.name}' has the same text as '{known[text]}'; give it words of its own"
        known.setdefault(text, label.name)


def _variables(template: str) -> set[str] | str:
    """The variables of a template, or what is wrong with it."""
    environment = SandboxedEnvironment()
    try:
        return meta.find_undeclared_variables(environment.parse(template))
    except TemplateSyntaxError as exc:
        return f"line {exc.lineno}: {exc.message}"


def _text_problems(usecase: UseCase) -> Iterator[str]:
    used = _variables(usecase.data.text)
    if isinstance(used, str):
        yield f"data.text: not a valid template, {used}"
        return
    allowed = usecase.data.named("input")
    for name in sorted(used - set(allowed)):
        column = usecase.data.columns.get(name)
        if column is None:
            yield f"data.text: no column '{name}'.{did_you_mean(name, allowed)} Allowed: {allowed}"
        elif column.role == "leakage":
            yield f"data.text: '{name}' is a leakage column: known only after the answer, it may not be an input"
        else:
            yield f"data.text: '{name}' has the role '{column.role}'; only inputs may be read: {allowed}"


def _prompt_problems(usecase: UseCase) -> Iterator[str]:
    used = _variables(usecase.prompt.template)
    if isinstance(used, str):
        yield f"prompt.template: not a valid template, {used}"
    elif "text" not in used or used - {"text", "labels"}:
        yield f"prompt.template: uses {sorted(used)}; it needs {{{{ text }}}} and may use {{{{ labels }}}}"


def _chat_problems(usecase: UseCase) -> Iterator[str]:
    prompt, data = usecase.prompt, usecase.data
    templates = {"prompt.system": prompt.system or ""}
    templates |= {f"prompt.messages.{number}.content": turn.content for number, turn in enumerate(prompt.messages)}
    for path, template in templates.items():
        used = _variables(template)
        if isinstance(used, str):
            yield f"{path}: not a valid template, {used}"
        elif used - {"labels"}:
            yield f"{path}: uses {sorted(used)}; it may use {{{{ labels }}}}"
    if usecase.task.type == "classification" and prompt.thinking == "keep":
        yield "prompt.thinking: a label is chosen at once, without thinking; remove it"
    yield from _conversation_problems(
        usecase, [name for name, one in data.columns.items() if one.type == "conversation"]
    )


def _conversation_problems(usecase: UseCase, columns: list[str]) -> Iterator[str]:
    """The text must be the conversation as it is."""
    if usecase.prompt.format != "conversation":
        if columns:
            yield f"data.columns.{columns[0]}.type: a conversation is read by prompt.format: conversation"
        if usecase.finetune.turns == "all":
            yield "finetune.turns: the turns of a conversation; set prompt.format to conversation, or remove it"
        return
    allowed = [name for name in columns if usecase.data.columns[name].role == "input"]
    if "".join(usecase.data.text.split()) not in {f"{{{{{name}}}}}" for name in allowed}:
        yield (
            "data.text: a conversation is read as it is: {{ <column> }}, an input of the type conversation; "
            f"there are: {allowed}"
        )
    if usecase.data.augment.active:
        yield "data.augment: variants of a conversation's text would break its turns; remove it"


def _watch_problems(usecase: UseCase) -> Iterator[str]:
    numbers = [name for name, column in usecase.data.columns.items() if column.type == "number"]
    for name in usecase.monitoring.columns:
        if name not in numbers:
            yield f"monitoring.columns: '{name}' is not a number column.{did_you_mean(name, numbers)}"


def _search_problems(usecase: UseCase) -> Iterator[str]:
    if usecase.search and usecase.finetune.preferences:
        yield "search: searches settings for training on records, but 'finetune.preferences' trains on corrections"


def _schedule_problems(usecase: UseCase) -> Iterator[str]:
    """A schedule that cannot be read, or that never comes: `0 0 31 2 *` is valid cron and waits for ever."""
    batch = usecase.batch
    given = {"schedule": usecase.schedule, "airflow.reconcile": usecase.airflow.reconcile}
    given |= {"batch.schedule": batch.schedule} if batch else {}
    for path, expression in given.items():
        if expression is not None and (problem := _cron_problem(expression)):
            yield f"{path}: '{expression:.60}' {problem}. Allowed: five fields, for example \"0 3 * * *\""
    if batch and batch.timezone not in (known := zoneinfo.available_timezones()):
        yield f"batch.timezone: no time zone '{batch.timezone:.60}'.{did_you_mean(batch.timezone, known)}"
    if usecase.notify.remind_hours >= usecase.approval.timeout_hours and (
        usecase.notify.email or usecase.notify.webhook_connection
    ):
        yield "notify.remind_hours: must be less than approval.timeout_hours, or the reminder would precede the question"


def _cron_problem(expression: str) -> str | None:
    from croniter import CroniterBadDateError, CroniterError, croniter

    if expression.startswith("@"):
        return (
            None if expression in ("@hourly", "@daily", "@weekly", "@monthly", "@yearly") else "is not a known preset"
        )
    if len(expression.split()) != 5:
        return f"has {len(expression.split())} fields"
    try:
        croniter(expression, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)).get_next()  # its February has 29 days
    except CroniterBadDateError:
        return "names a day that does not exist"
    except (CroniterError, ValueError, AttributeError):
        return "is not a cron expression"
    return None


def reference_problems(usecase: UseCase, known: Iterable[str]) -> Iterator[str]:
    """Other use cases that are named and do not exist.

    Args:
        usecase: that names them.
        known: all that there are.
    """
    known, tuning = sorted(known), usecase.finetune
    named = {"finetune.start": tuning.start.partition(":")[2]}
    named |= {f"finetune.mix.{name}": name for name in tuning.mix}
    named |= {f"finetune.domain.{name}": name for name in (tuning.domain.usecases if tuning.domain else [])}
    for path, name in named.items():
        if name not in ("", "own", *known):
            yield f"{path}: there is no use case '{name}'.{did_you_mean(name, known)} Known: {known}"


def _known_metrics(usecase: UseCase) -> dict[str, str]:
    """The figures that this use case's evaluation gives, and their direction."""
    if usecase.task.type == "generation":
        return TEXT_METRICS
    known = dict(METRICS) | {f"under_triage_rate.{name}": "lower" for name in usecase.task.severe}
    if not usecase.task.severe:
        del known["severe_under_triage_rate"]
    return known


def _baseline_problems(usecase: UseCase) -> Iterator[str]:
    allowed = list(BASELINES[usecase.task.type])
    given = {"evaluation.baselines": usecase.evaluation.baselines or [], "gate.beats": usecase.gate.beats}
    for path, names in given.items():
        for name in (name for name in names if name not in allowed):
            yield f"{path}: '{name}' is no baseline of a {usecase.task.type}. Allowed: {allowed}"


def _generation_problems(usecase: UseCase) -> Iterator[str]:
    """What can be configured for labels only, and an answer that leaves no space for its prompt."""
    if usecase.task.type != "generation":
        return
    tuning, most = usecase.finetune, usecase.task.decoding.max_new_tokens
    if tuning.members > 1:
        yield f"finetune.members: {tuning.members} models have no common text; a generation has one"
    if tuning.preferences:
        yield "finetune.preferences: corrections are of labels; a generation is trained on records"
    if most >= tuning.max_length:
        yield (
            f"task.decoding.max_new_tokens: {most} leave no space for a prompt within finetune.max_length "
            f"({tuning.max_length})"
        )


def _abstention_problems(usecase: UseCase) -> Iterator[str]:
    limited = {limit.metric for limit in usecase.gate.limits}
    if usecase.task.abstain_below is not None and "coverage" not in limited:
        yield "gate.limits: task.abstain_below lets the model abstain; limit how much: {metric: coverage, at_least: 0.8}"
    if usecase.task.abstain_below is None and (asked := sorted(limited & set(SELECTIVE))):
        yield f"gate.limits: {asked} are figures of a model that may abstain; set task.abstain_below, or remove them"


def _gate_problems(usecase: UseCase) -> Iterator[str]:
    known = _known_metrics(usecase)
    compared = [name for name, better in known.items() if better == "higher"]  # none that abstaining alone improves
    if usecase.task.type == "classification":
        yield from _abstention_problems(usecase)
        known |= SELECTIVE
    if usecase.gate.metric not in compared:
        hint = did_you_mean(usecase.gate.metric, compared)
        yield f"gate.metric: '{usecase.gate.metric}' is not compared.{hint} Allowed (more is better): {compared}"
    for number, limit in enumerate(usecase.gate.limits):
        where = f"gate.limits.{number}"
        if limit.metric not in known:
            severe = (
                ""
                if usecase.task.severe or usecase.task.type == "generation"
                else "; name labels in task.severe for the figures of severe records"
            )
            yield f"{where}.metric: no figure '{limit.metric}'.{did_you_mean(limit.metric, known)} Known: {list(known)}{severe}"
        elif (known[limit.metric] == "higher") == (limit.at_least is None):
            right = "at_least" if known[limit.metric] == "higher" else "at_most"
            yield f"{where}: of '{limit.metric}' {known[limit.metric]} is better, so its limit is '{right}'"


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Each mistake as `path: what is wrong`, with the nearest known key for an unknown one."""
    lines: list[str] = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _keys_at(root, item["loc"][:-1])
            lines.append(f"{path}: unknown key.{did_you_mean(str(item['loc'][-1]), known)} Known: {known}")
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
            lines.extend(f"{path}: {line}" if path else line for line in text.splitlines())
        else:
            given = "" if item["type"] == "missing" else f"; given: {item['input']!r:.60}"
            lines.append(f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}{given}")
    return lines


def _keys_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys of the model that a path leads to; list indexes and mapping keys are passed over."""
    for part in path:
        field = model.model_fields.get(part)
        if field is not None:
            model = _model_in(field.annotation) or model
    return sorted(model.model_fields)


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)

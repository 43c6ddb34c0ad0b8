"""One case per row of the outcome and error tables of the operator chapter: what is sent, and the whole answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stage import FULL_KEY, Answer, Asked, Stage

Ask = Callable[[Stage], Asked]
UNSET: Any = object()


@dataclass(frozen=True)
class Case:
    """`row` names a row of `rows.ROWS`. What is UNSET is not compared; `check` looks at anything else."""

    section: str
    row: str
    title: str
    ask: Ask
    status: int = 200
    json: Any = UNSET
    text: str = UNSET
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Stage], None] | None = None
    check: Callable[[Stage, Answer], None] | None = None

    @property
    def name(self) -> str:
        return f"{self.section} {self.row}: {self.title}"


def judge(case: Case, stage: Stage) -> None:
    """Sends the case's request and compares the answer."""
    if case.prepare is not None:
        case.prepare(stage)
    answer = stage.send(case.ask(stage))
    shown = (answer.status, answer.text if answer.document is None else answer.document)
    assert answer.status == case.status, shown
    if case.json is not UNSET:
        assert answer.document == case.json, shown
    if case.text is not UNSET:
        assert answer.text == case.text, shown
    if case.check is not None:
        case.check(stage, answer)


def call(path: str, document: Any = None, key: str = FULL_KEY, *, binary: bool = False, **headers: str) -> Ask:
    """A sealed request. `document`: a JSON value, bytes as they are, or None for no payload."""

    def ask(stage: Stage) -> Asked:
        return stage.sealed(path, document, key, binary=binary, headers=headers)

    return ask


def bare(method: str, path: str, body: bytes = b"", key: str | None = None, **headers: str) -> Ask:
    """A request as it is, with a bearer key or without."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        fields["authorization"] = f"Bearer {key}"
    return lambda _: Asked(method, path, fields, body)


def error(message: str, status: str = "client_error") -> dict[str, str]:
    return {"message": message, "status": status}


def success(body: Any) -> dict[str, Any]:
    return {"body": body, "status": "success"}


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()

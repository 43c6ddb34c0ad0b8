"""Health (section 13.1)."""

from case import Case, bare
from stage import Answer, Stage

PATH = "/ops/healthcheck"


def starting(stage: Stage) -> None:
    stage.health.component("http-server").starting()
    stage.health.component("salt-rotator").fail(None)


def no_type(_: Stage, answer: Answer) -> None:
    assert "content-type" not in answer.headers


CASES = [
    Case("13.1", "healthy", "OK", bare("GET", PATH), text="OK", check=no_type),
    Case(
        "13.1",
        "unhealthy",
        "one line per part",
        bare("GET", PATH),
        503,
        text="http-server: still starting\nsalt-rotator: null",
        prepare=starting,
        check=no_type,
    ),
]

"""`uid2 admin optout breaker …`: what halts delta production, and how near the traffic is to it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uid2.cli.admin_session import Row, session_of, show_one
from uid2.cli.optout_place import OptOutPlace, fetched, iso, now_seconds, place_of, say

if TYPE_CHECKING:
    from uid2.optout.manual_override import ManualOverride

app = typer.Typer(help="The circuit breaker of delta production.", no_args_is_help=True)
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
UNKNOWN: Final = "not known: the service does not answer here"


@app.command("show")
def show(context: typer.Context) -> None:
    """What halts production, the traffic against its limit, and what the running service says."""
    place = place_of(context)
    show_one(context, {**_override_row(place), **_traffic_row(place), **_service_row(place)})


@app.command("set")
def halt(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Kept in the object and shown to others.")] = "set by an administrator",
    yes: YesOption = False,
) -> None:
    """Halt production; opt-outs are taken and told to operators as before, and wait for their files."""
    override, session = _override(place_of(context)), session_of(context)
    if override.active():
        say("production is halted already")
        return
    if session.dry_run:
        say(f"would write {override.path}")
        return
    if not yes:
        typer.confirm("Halt delta production?", abort=True, err=True)
    override.set(now_seconds(), reason)
    say(f"wrote {override.path}: production is halted; go on with: uid2 admin optout breaker reset")


@app.command("reset")
def reset(context: typer.Context, yes: YesOption = False) -> None:
    """Let production go on with what waits."""
    place, session = place_of(context), session_of(context)
    override = _override(place)
    if not override.active():
        say("nothing halts production")
        return
    show_one(context, {**_override_row(place), **_traffic_row(place)})
    if session.dry_run:
        say(f"would delete {override.path}")
        return
    if not yes:
        typer.confirm("Let delta production go on?", abort=True, err=True)
    override.reset()
    say(f"deleted {override.path}: the next job goes on with what waits")


def _override(place: OptOutPlace) -> "ManualOverride":
    from uid2.optout.manual_override import ManualOverride

    return ManualOverride(place.bucket, place.override_path)


def _override_row(place: OptOutPlace) -> Row:
    found = _override(place).halt()
    return {
        "production": "goes on" if found is None else "halted",
        "object": place.override_path,
        "halted since": None if found is None or found.since is None else iso(found.since),
        "halted because": None if found is None else found.reason,
    }


def _traffic_row(place: OptOutPlace) -> Row:
    from uid2.optout.traffic_calculator import TrafficCalculator, load_traffic_rules

    rules = load_traffic_rules(None if place.settings is None else place.settings.traffic_calc_config_path)
    figures = TrafficCalculator(place.bucket).figures(rules, place.files(), (), 0, now_seconds())
    return {
        "opt-outs in files of the look-back": figures.in_deltas,
        "look-back": f"{rules.evaluation_window_seconds} s",
        "limit": f"{figures.limit} ({rules.multiplier} times {rules.baseline})",
        "share of the limit": f"{100 * figures.total / figures.limit:.1f} %",
    }


def _service_row(place: OptOutPlace) -> Row:
    """What waits, and the last job; both from the running service."""
    token = None if place.internal_token is None else place.internal_token.reveal().decode()
    job = None if token is None else fetched(place.control, "/optout/deltaproduce/status", token)
    waiting = place.waiting()
    return {
        "opt-outs that wait": UNKNOWN if waiting is None else waiting,
        "last job": UNKNOWN if job is None else _job_text(job),
    }


def _job_text(job: dict[str, Any]) -> str:
    result = job.get("result")
    if isinstance(result, dict):
        return f"{job.get('state')}, {result.get('status')}: {result.get('stop_reason')}"
    return str(job.get("error") or job.get("state") or job.get("message"))

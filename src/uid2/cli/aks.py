"""`uid2 aks …`: manifests for Azure Kubernetes Service."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make manifests for Azure Kubernetes Service.", no_args_is_help=True)


class Part(StrEnum):
    OPERATOR = "operator"
    AUTOSCALER = "autoscaler"
    ADMISSION = "admission-policy"


@app.callback()
def aks() -> None:
    """Make manifests for Azure Kubernetes Service."""


@app.command("render")
def render(
    values: Annotated[Path, typer.Option("--values", help="YAML file; see scripts/azure/aks/values.yml.")],
    part: Annotated[Part, typer.Option("--part", help="Which manifests.")] = Part.OPERATOR,
) -> None:
    """Print the manifests for these values. Values that break a rule of the package are refused."""
    from uid2.packaging.aks_cluster import render_admission, render_autoscaler
    from uid2.packaging.aks_policy import violations
    from uid2.packaging.aks_render import render_manifests, render_text
    from uid2.packaging.aks_values import read_values
    from uid2.protocol.errors import ConfigurationError

    wanted = read_values(values)
    match part:
        case Part.OPERATOR:
            manifests = render_manifests(wanted)
            if broken := violations(manifests):
                raise ConfigurationError(f"the manifests break a rule: {'; '.join(broken)}")
        case Part.AUTOSCALER:
            manifests = render_autoscaler(wanted)
        case Part.ADMISSION:
            manifests = render_admission(wanted)
    option = "" if part is Part.OPERATOR else f" --part {part.value}"
    print(render_text(manifests, f"Made by: uid2 aks render --values {values.name}{option}"), end="")

"""Keys of services must name a link that allows them to map (operator chapter, 3.6)."""

from dataclasses import dataclass
from typing import Final

from uid2.bulk.mapping import Shape
from uid2.operator.enveloped import EnvelopedCall
from uid2.protocol.ids import Role
from uid2.protocol.json_text import parse_object, text_of
from uid2.protocol.services import link_key

UNNAMED: Final = "unknown"


@dataclass(frozen=True, slots=True)
class LinkLabels:
    """The labels of a mapping through a service link; `present` is false for every other request."""

    present: bool = False
    service_name: str = UNNAMED
    link_name: str = UNNAMED


def accept_link(call: EnvelopedCall, shape: Shape) -> LinkLabels | None:
    """The labels of an accepted request, None when its link is refused. The payload is a checked JSON object."""
    service_id = call.client.service_id
    if not service_id:
        return LinkLabels()
    if not call.context.settings.validate_service_links:
        return None
    # The strict v3 format has no member for a link.
    members = {} if shape is Shape.V3 else parse_object(call.payload)
    if "link_id" not in members:
        return LinkLabels()
    link = call.snapshot.service_links.get(link_key(service_id, text_of(members["link_id"])))
    if link is None or link.disabled or Role.MAPPER not in link.roles:
        return None
    service = call.snapshot.services.get(service_id)
    if service is None:
        return LinkLabels()
    return LinkLabels(True, call.client.name or UNNAMED, link.name or UNNAMED)

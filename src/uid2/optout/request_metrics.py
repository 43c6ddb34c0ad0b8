"""What is counted of every request: a completion hook."""

from typing import final

from uid2.protocol.operators import OperatorKey
from uid2.service.messages import Request, Response
from uid2.service.metrics import Metrics


@final
class RequestMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, request: Request, response: Response) -> None:
        operator: OperatorKey | None = request.attributes.get("operator")
        self._metrics.count(
            "uid2_http_requests_total",
            api_contact="unknown" if operator is None else operator.contact or "unknown",
            site_id="null" if operator is None or operator.site_id is None else operator.site_id,
            status=response.status,
            method=request.method,
            path=request.route_path or "unknown",
        )

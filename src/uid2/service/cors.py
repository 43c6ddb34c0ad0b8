"""Cross-origin rules (operator API, 2.1): two hooks, one before and one after the handlers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from uid2.service.messages import Request, Response, generic_failure

OPERATOR_HEADERS = (
    "X-UID2-Client-Version,Access-Control-Request-Method,Access-Control-Allow-Credentials,"
    "Access-Control-Allow-Origin,Access-Control-Allow-Headers,Content-Type"
)
CORE_HEADERS = (
    "Access-Control-Request-Method,Access-Control-Allow-Credentials,"
    "Access-Control-Allow-Origin,Access-Control-Allow-Headers,Content-Type"
)
_METHODS = "GET,POST,OPTIONS"


@dataclass(frozen=True, slots=True)
class CrossOriginRules:
    """`headers` is the fixed list of a preflight answer, `headers_by_path` the lists of paths with their own."""

    headers: str
    headers_by_path: Mapping[str, str] = field(default_factory=dict)

    def before(self, request: Request) -> Response | None:
        """403 for an empty origin, 204 for a preflight of any path, known or not; else None."""
        origin = request.header("origin")
        if origin is None:
            return None
        if not origin:
            return generic_failure(403)
        if request.method != "OPTIONS" or "access-control-request-method" not in request.headers:
            return None
        allowed = self.headers_by_path.get(request.path.rstrip("/"), self.headers)
        return Response(
            204,
            headers=(
                ("content-length", "0"),
                ("access-control-allow-methods", _METHODS),
                ("access-control-allow-headers", allowed),
            ),
        )

    def after(self, request: Request, response: Response) -> Response:
        """`vary: origin` always; a non-empty origin is echoed, errors included."""
        origin = request.header("origin")
        if not origin:
            return response.with_headers(("vary", "origin"))
        return response.with_headers(("access-control-allow-origin", origin), ("vary", "origin"))


def operator_rules() -> CrossOriginRules:
    return CrossOriginRules(OPERATOR_HEADERS, {"/v2/token/validate": OPERATOR_HEADERS + ",Authorization"})


def core_rules() -> CrossOriginRules:
    return CrossOriginRules(CORE_HEADERS)

"""/attest/get_token: a token without attestation, for tests (core chapter, 2.6)."""

from uid2.core.context import CoreContext
from uid2.core.issuing import new_token
from uid2.protocol.operators import OperatorKey
from uid2.service.bearer import bearer_key
from uid2.service.messages import Request, Response, json_response


async def get_token(context: CoreContext, operator: OperatorKey, request: Request) -> Response:  # noqa: ARG001
    token, _ = new_token(context, bearer_key(request) or "")
    return json_response(200, {"status": "success", "body": {"attestation_token": token}})

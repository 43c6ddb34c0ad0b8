"""POST /attest/challenge: a nonce for report data of version 2 (design, 11.2)."""

from uid2.core.context import CoreContext
from uid2.core.nonces import LIFETIME_SECONDS
from uid2.protocol.attest_messages import Challenge, encode_challenge
from uid2.protocol.operators import OperatorKey
from uid2.service.messages import JSON, Request, Response


async def challenge(context: CoreContext, operator: OperatorKey, _: Request) -> Response:
    nonce = context.nonces.issue(operator.key_hash)
    return Response(200, encode_challenge(Challenge(nonce, expires_in=LIFETIME_SECONDS)), JSON)

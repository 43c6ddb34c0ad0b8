"""GET /cloud_encryption_keys/retrieve: the keys of the caller's site, active or not (core chapter, 2.4)."""

import logging

from uid2.core.auth import who
from uid2.core.context import CoreContext
from uid2.core.problems import not_loaded, problem
from uid2.protocol.encoding import encode_base64
from uid2.protocol.operators import OperatorKey
from uid2.service.messages import Request, Response, json_response
from uid2.stores.kinds import CLOUD_KEYS

NONE_FOUND = "No Cloud Encryption keys found"

_log = logging.getLogger(__name__)


async def retrieve_cloud_keys(context: CoreContext, operator: OperatorKey, _: Request) -> Response:
    if operator.site_id is None:
        _log.error("/cloud_encryption_keys/retrieve: the record of %s has no site_id", who(operator))
        # The text names another operation in the reference too; operators may compare it.
        return problem(500, "error", "error generating attestation token")
    if not context.own.loaded(CLOUD_KEYS.name):
        return not_loaded("cloud encryption keys")
    keys = context.own.cloud_keys_of(operator.site_id)
    if not keys:
        return problem(500, NONE_FOUND, f"{NONE_FOUND} for siteId: {operator.site_id}")
    return json_response(
        200,
        {
            "cloud_encryption_keys": [
                {
                    "id": key.id,
                    "siteId": key.site_id,
                    "activates": key.activates,
                    "created": key.created,
                    "secret": encode_base64(key.secret.reveal()),
                }
                for key in keys
            ]
        },
    )

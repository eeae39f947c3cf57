"""AccessService: decodes, calls the API keys, encodes."""

from typing import Any

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2_grpc import AccessServiceServicer
from meshkit import names, page_token
from services.coordinator import access_convert, convert
from services.coordinator.api_keys import ApiKeys
from services.coordinator.key_powers import Makers

# grpc.aio's context has one type parameter pair per method; nothing here uses them.
_Context = Any


class AccessServicer(AccessServiceServicer):
    """The API keys at the wire."""

    def __init__(self, keys: ApiKeys, makers: Makers) -> None:
        self._keys = keys
        self._makers = makers

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: _Context
    ) -> pb.CreateApiKeyResponse:
        (tenant,) = names.TENANT.parse(request.parent, field="parent")
        wanted = access_convert.api_key(request.api_key)
        request_id = convert.request_id(request.request_id)
        maker = await self._makers.current()
        made, text = await self._keys.create(maker, tenant, wanted, request_id)
        return pb.CreateApiKeyResponse(api_key=made, text=text)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: _Context
    ) -> pb.ListApiKeysResponse:
        (tenant,) = names.TENANT.parse(request.parent, field="parent")
        query = page_token.query_of(request)
        after = page_token.decode(query, request.page_token) or ""
        limit = page_token.page_size(request.page_size, default=50)
        listed = await self._keys.list(await self._makers.current(), tenant)
        found = [each for each in listed if each.name > after]
        following = page_token.encode(query, found[limit - 1].name) if len(found) > limit else ""
        return pb.ListApiKeysResponse(api_keys=found[:limit], next_page_token=following)

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: _Context
    ) -> pb.RevokeApiKeyResponse:
        tenant, key_id = names.API_KEY.parse(request.name, field="name")
        revoked = await self._keys.revoke(await self._makers.current(), tenant, key_id)
        return pb.RevokeApiKeyResponse(api_key=revoked)

"""ScheduleService: decodes, calls the schedules, encodes."""

from typing import Any

from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from agentmesh.coordinator.v1.schedule_service_pb2_grpc import ScheduleServiceServicer
from meshkit import page_token
from services.coordinator import convert, schedule_convert
from services.coordinator.schedules import Schedules

# grpc.aio's context has one type parameter pair per method; nothing here uses them.
_Context = Any


class ScheduleServicer(ScheduleServiceServicer):
    """The schedules at the wire."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def CreateSchedule(
        self, request: pb.CreateScheduleRequest, context: _Context
    ) -> pb.CreateScheduleResponse:
        tenant = convert.tenant(request.parent)
        wanted = schedule_convert.schedule(request.schedule)
        wanted.ClearField("etag")
        request_id = convert.header_request_id(request.request_id)
        created = await self._schedules.create(tenant, request.schedule_id, wanted, request_id)
        return pb.CreateScheduleResponse(schedule=created)

    async def GetSchedule(
        self, request: pb.GetScheduleRequest, context: _Context
    ) -> pb.GetScheduleResponse:
        tenant, schedule_id = schedule_convert.schedule_name(request.name)
        return pb.GetScheduleResponse(schedule=await self._schedules.get(tenant, schedule_id))

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: _Context
    ) -> pb.ListSchedulesResponse:
        tenant = convert.tenant(request.parent)
        query = page_token.query_of(request)
        after = page_token.decode(query, request.page_token) or ""
        limit = page_token.page_size(request.page_size, default=50)
        found = [each for each in await self._schedules.list(tenant) if each.name > after]
        following = page_token.encode(query, found[limit - 1].name) if len(found) > limit else ""
        return pb.ListSchedulesResponse(schedules=found[:limit], next_page_token=following)

    async def UpdateSchedule(
        self, request: pb.UpdateScheduleRequest, context: _Context
    ) -> pb.UpdateScheduleResponse:
        name = request.schedule.name
        tenant, schedule_id = schedule_convert.schedule_name(name, field="schedule.name")
        wanted = schedule_convert.schedule(request.schedule)
        updated = await self._schedules.update(tenant, schedule_id, wanted)
        return pb.UpdateScheduleResponse(schedule=updated)

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, context: _Context
    ) -> pb.DeleteScheduleResponse:
        tenant, schedule_id = schedule_convert.schedule_name(request.name)
        await self._schedules.delete(tenant, schedule_id)
        return pb.DeleteScheduleResponse()

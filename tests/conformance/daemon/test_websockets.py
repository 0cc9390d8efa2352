"""The daemon against a small platform on the `websockets` library, which says the things that the SDK's server does not:
events with a null join_ref, frames in pieces, crashes of a channel, pings, restarts."""

import asyncio
import json
import unittest
from contextlib import asynccontextmanager
from http import HTTPStatus

from door import AGENT, KEY, TOPIC, Door
from rest_server import Rest, now, request
from sandbox import until
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


class Phoenix:
    """Channels, serializer 2.0.0, for one agent."""

    def __init__(self):
        self.connection = None
        self.joins = []
        self.join_ref = None
        self.port = 0
        self.refusals = []
        self.extensions = None

    def process_request(self, connection, asked):
        if asked.headers.get("x-api-key") != KEY:
            return connection.respond(HTTPStatus.FORBIDDEN, "")
        if self.refusals:
            status, headers, body = self.refusals.pop(0)
            response = connection.respond(status, json.dumps(body))
            response.headers.update(headers)
            return response
        return None

    async def handle(self, connection):
        self.connection = connection
        self.extensions = connection.protocol.extensions
        try:
            async for text in connection:
                join_ref, ref, topic, event, _payload = json.loads(text)
                if event == "phx_join":
                    self.joins.append((topic, join_ref, ref))
                    if topic == TOPIC:
                        self.join_ref = join_ref
                reply = {"status": "ok", "response": {}}
                await self.say([join_ref, ref, topic, "phx_reply", reply])
                if event == "phx_leave":
                    await self.say([join_ref, join_ref, topic, "phx_close", {}])
        except ConnectionClosed:
            pass

    async def say(self, frame):
        await self.connection.send(json.dumps(frame))

    async def push(self, event, payload, join_ref="the join's"):
        await self.say([self.join_ref if join_ref == "the join's" else join_ref, None, TOPIC, event, payload])

    @asynccontextmanager
    async def running(self, **options):
        async with serve(
            self.handle, "127.0.0.1", self.port, process_request=self.process_request, **options
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield server


class Websockets(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.rest = Rest()
        self.addCleanup(self.rest.close)
        self.phoenix = Phoenix()

    async def begin(self, **timing):
        url = f"ws://127.0.0.1:{self.phoenix.port}/api/v1/socket/websocket"
        return await self.enterAsyncContext(Door(self.rest.url, url, **timing))

    async def live(self, **options):
        await self.enterAsyncContext(self.phoenix.running(**options))
        door = await self.begin()
        await door.live()
        return door

    async def friend(self, door, **how):
        row = self.rest.add(request("friends/ann"))
        await self.phoenix.push("contact_request_received", row, **how)
        await door.says("answered", request=row["id"], verdict="approve", outcome="approved")
        return row

    async def test_events_with_the_joins_ref_with_null_and_with_another_joins(self):
        door = await self.live()
        await self.friend(door)
        await self.friend(door, join_ref=None)
        # Of a join that is over: only a listing may bring it, and none is due.
        stale = self.rest.add(request("friends/stale"))
        await self.phoenix.push("contact_request_received", stale, join_ref="99")
        await self.friend(door)
        self.assertNotIn(stale["id"], [answer[0] for answer in self.rest.answers])
        self.assertEqual(door.count("request_seen", via="event"), 3)

    async def test_a_request_without_handle_name_and_message_waits_for_a_person(self):
        door = await self.live()
        for fields in [{}, {"from_handle": None, "from_name": None, "message": None}, {"from_handle": "no handle at all"}]:
            row = request("x")
            del row["from_handle"]
            row.update(fields)
            self.rest.add(row)
            await self.phoenix.push("contact_request_received", row)
            await door.says("decided", request=row["id"], verdict="defer")
        self.assertEqual(self.rest.answers, [])

    async def test_the_events_that_follow_an_answer_are_understood(self):
        door = await self.live()
        loop = asyncio.get_running_loop()

        def followed(row, status):
            contact = {"id": f"contact-{row['id']}", "type": "Agent", "inserted_at": now(), "handle": row["from_handle"], "name": None}

            async def tell():
                await self.phoenix.push("contact_request_updated", {"id": row["id"], "status": status})
                await self.phoenix.push("contact_added", contact)

            asyncio.run_coroutine_threadsafe(tell(), loop).result()

        # Both are told before the call is answered, as the platform does.
        self.rest.on_answer = followed
        row = await self.friend(door)
        await door.says("contact_added", contact=f"contact-{row['id']}", handle="friends/ann", kind="agent")
        await self.phoenix.push("contact_removed", {"id": f"contact-{row['id']}"})
        await door.says("contact_removed", contact=f"contact-{row['id']}")
        self.assertEqual(door.count("settled"), 0, "our own update is nobody else's")

    async def test_what_a_person_settles_is_left_alone(self):
        door = await self.live()
        row = self.rest.add(request("carol"))
        await self.phoenix.push("contact_request_received", row)
        await door.says("decided", request=row["id"], verdict="defer")
        self.rest.pending.clear()
        await self.phoenix.push("contact_request_updated", {"id": row["id"], "status": "rejected"}, join_ref=None)
        await door.says("settled", request=row["id"])
        self.assertEqual(self.rest.answers, [])

    async def test_frames_in_pieces_binary_frames_and_garbage_are_survived(self):
        door = await self.live()
        row = self.rest.add(request("friends/ann", message="é" * 400))
        frame = json.dumps([None, None, TOPIC, "contact_request_received", row], ensure_ascii=False)
        await self.phoenix.connection.send(frame[at : at + 7] for at in range(0, len(frame), 7))
        await door.says("answered", request=row["id"], outcome="approved")
        for garbage in ["", "[]", "{}", "not json", b"\x00\x01", json.dumps([1, 2, 3, 4, 5]), "[" * 1000]:
            await self.phoenix.connection.send(garbage)
        await self.phoenix.push("an_event_of_next_year", {"what": ["ever"]})
        await self.phoenix.push("contact_request_received", {"id": 7})
        await self.friend(door)
        self.assertEqual(door.count("state_changed", state="away"), 0)
        self.assertEqual(len(self.phoenix.joins), 2)

    async def test_a_channel_that_crashes_or_closes_is_joined_again_with_fresh_refs(self):
        door = await self.live()
        for event, payload in [("phx_error", {}), ("phx_error", {"reason": "channel_crash"}), ("phx_close", {})]:
            before, missed = len(self.phoenix.joins), self.rest.add(request("friends/missed"))
            ref = self.phoenix.join_ref
            await self.phoenix.say([ref, ref, TOPIC, event, payload])
            await until(lambda: len(self.phoenix.joins) > before, f"a join after {event}")
            await door.says("answered", request=missed["id"], outcome="approved")
            await self.friend(door)
        refs = [ref for topic, _, ref in self.phoenix.joins]
        self.assertEqual(len(set(refs)), len(refs))
        self.assertEqual(door.count("state_changed", state="starting") + door.count("reconnect"), 0)

    async def test_pings_are_answered_and_no_extension_is_asked_for(self):
        door = await self.live(ping_interval=0.05, ping_timeout=5)
        for _ in range(10):
            await asyncio.wait_for(await self.phoenix.connection.ping(), 5)
        self.assertEqual(self.phoenix.extensions, [])
        await self.friend(door)

    async def test_a_platform_that_restarts_is_found_again_and_nothing_is_lost(self):
        async with self.phoenix.running() as server:
            door = await self.begin()
            await door.live()
            await self.friend(door)
            server.close(code=1012)
            await server.wait_closed()
        rows = [self.rest.add(request(f"friends/f-{count}")) for count in range(250)]
        await self.enterAsyncContext(self.phoenix.running())
        for row in rows:
            await door.says("answered", request=row["id"], outcome="approved")
        await door.live()
        self.assertEqual(len(self.rest.answers), len(set(self.rest.answers)), "nothing is answered twice")

    async def test_refused_upgrades_are_obeyed(self):
        conflict = {"error": {"code": "connection_conflict", "message": "taken", "request_id": None}}
        busy = {"error": {"code": "unavailable", "message": "later", "request_id": None, "retry_after": 1}}
        self.phoenix.refusals = [
            (HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}, busy),
            (HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "1"}, busy),
            (HTTPStatus.CONFLICT, {}, conflict),
        ]
        door = await self.live()
        for status in (503, 429):
            self.assertTrue(
                any(line["event"] == "reconnect" and f"http {status} `unavailable`" in line["why"] for line in door.lines)
            )
        await door.says("state_changed", state="yielded")
        await self.friend(door)


if __name__ == "__main__":
    unittest.main()

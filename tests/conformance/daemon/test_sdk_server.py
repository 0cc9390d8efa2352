"""The daemon against the Phoenix server that band-sdk brings for its own tests."""

import asyncio
import unittest

from band.testing.phoenix_server import JoinOutcome, fake_phoenix_server
from door import AGENT, KEY, TOPIC, Door
from rest_server import Rest, request
from sandbox import until


class SdkServer(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.rest = Rest()
        self.addCleanup(self.rest.close)

    async def begin(self, **scenario):
        server = await self.enterAsyncContext(fake_phoenix_server(**scenario))
        door = await self.enterAsyncContext(Door(self.rest.url, f"{server.url}/api/v1/socket/websocket"))
        return server, door

    async def test_a_friend_and_a_foe_are_answered_and_a_stranger_waits(self):
        server, door = await self.begin()
        await door.live()
        rows = [request("friends/ann", from_name="Ann"), request("@foes/bob"), request("carol", message="hello")]
        for row in rows:
            self.rest.add(row)
            await server.push(TOPIC, "contact_request_received", row)
        await door.says("answered", request=rows[0]["id"], verdict="approve", outcome="approved")
        await door.says("answered", request=rows[1]["id"], verdict="reject", outcome="rejected")
        await door.says("decided", request=rows[2]["id"], verdict="defer")
        # Both are on their way at the same time: which arrives first is chance.
        self.assertCountEqual(self.rest.answers, [(rows[0]["id"], "approve"), (rows[1]["id"], "reject")])
        self.assertEqual(door.count("request_seen", via="event"), 3)

        [upgrade] = server.upgrades
        self.assertEqual(upgrade.query, {"vsn": "2.0.0", "agent_id": AGENT, "on_conflict": "reject"})
        self.assertEqual(upgrade.headers["x-api-key"], KEY)
        self.assertEqual(self.rest.keys, {KEY})
        self.assertEqual(server.joined_topics, {TOPIC, f"agent_control:{AGENT}"})

    async def test_heartbeats_keep_one_connection(self):
        server, door = await self.begin()
        await door.live()

        def beats():
            return sum(1 for message in server.received if message.topic == "phoenix")

        await until(lambda: beats() >= 20, "twenty heartbeats")
        self.assertEqual(server.connection_count, 1)
        events = {str(message.event) for message in server.received}
        self.assertEqual(events, {"phx_join", "heartbeat"}, "a client says nothing else")

    async def test_every_end_is_followed_by_a_connection_and_a_listing(self):
        server, door = await self.begin()
        await door.live()
        ends = [1000, 1001, 1002, 1011, None]
        for count, code in enumerate(ends, start=2):
            # Nobody is told of this one: only the list has it.
            row = self.rest.add(request(f"friends/friend-{count}"))
            if code is None:
                await server.abort_connection()
            else:
                await server.close_connection(code=code)
            await door.says("answered", request=row["id"], outcome="approved")
            await until(lambda: server.connection_count == count, f"the connection after {code}")
            await until(lambda: TOPIC in server.joined_topics, "joined again")
        self.assertEqual(len(self.rest.answers), len(ends))

    async def test_a_refused_join_is_tried_again_on_the_same_socket(self):
        server, door = await self.begin(
            join_outcomes={TOPIC: [JoinOutcome.REJECTED, JoinOutcome.REJECTED, JoinOutcome.OK]}
        )
        await door.live()
        self.assertEqual(server.connection_count, 1)
        joins = [message for message in server.received if message.topic == TOPIC]
        self.assertEqual(len({message.ref for message in joins}), 3, "each with a ref of its own")
        row = self.rest.add(request("friends/ann"))
        await server.push(TOPIC, "contact_request_received", row)
        await door.says("answered", request=row["id"], outcome="approved")

    async def test_a_refused_control_channel_is_no_trouble(self):
        control = f"agent_control:{AGENT}"
        server, door = await self.begin(join_outcomes={control: [JoinOutcome.REJECTED]})
        await door.live()
        row = self.rest.add(request("friends/ann"))
        await server.push(TOPIC, "contact_request_received", row)
        await door.says("answered", request=row["id"], outcome="approved")
        self.assertEqual(server.connection_count, 1)

    async def test_a_conflict_yields_and_answers_by_listing(self):
        server, door = await self.begin(refuse_upgrades=True)
        await door.says("state_changed", state="yielded")
        row = self.rest.add(request("friends/ann"))
        await door.says("answered", request=row["id"], verdict="approve", outcome="approved")
        self.assertEqual(server.connection_count, 0)
        self.assertEqual({upgrade.query["on_conflict"] for upgrade in server.upgrades}, {"reject"})

    async def test_a_supersede_is_obeyed(self):
        server, door = await self.begin()
        await door.live()
        await until(lambda: f"agent_control:{AGENT}" in server.joined_topics, "the control channel")
        told = {"reason": "superseded", "message": "taken over", "retryable": False, "correlation_id": "c-1"}
        await server.push(f"agent_control:{AGENT}", "supersede", told)
        await door.says("superseded")
        await server.close_connection(code=1000)
        await door.says("state_changed", state="yielded")
        row = self.rest.add(request("friends/ann"))
        await door.says("answered", request=row["id"], outcome="approved")

    async def test_a_peer_that_reads_nothing_is_left_and_found_again(self):
        server = await self.enterAsyncContext(fake_phoenix_server())
        url = f"{server.url}/api/v1/socket/websocket"
        door = await self.enterAsyncContext(Door(self.rest.url, url, dead_after="1s"))
        await door.live()
        with server.stalled():
            await until(lambda: server.connection_count == 2, "a second connection beside the deaf one")
        await door.live()


if __name__ == "__main__":
    unittest.main()

"""band-sdk's own WebSocketClient on the sandbox's socket: the four contact events, reconnects, crashed channels."""

import asyncio
import unittest

from band.client.streaming import WebSocketClient, WebSocketUpgradeError
from band_rest import AsyncRestClient
from phoenix_channels_python_client.client_types import ReconnectPolicy
from phoenix_channels_python_client.exceptions import PHXTopicError
from sandbox import ALICE, ALICE_HANDLE, ALICE_KEY, BOB, BOB_HANDLE, BOB_KEY, JOHN_KEY, PATIENCE, Sandbox, until

# The client's own waits, shortened: how long it waits between tries is its business, not the sandbox's.
QUICK = ReconnectPolicy(
    base_delay_s=0.05,
    max_delay_s=0.1,
    reconnect_on_normal_close=True,
    service_restart_min_delay_s=0.05,
    service_restart_max_delay_s=0.1,
    rapid_first_min_delay_s=0.05,
    rapid_second_min_delay_s=0.05,
    rapid_cooldown_base_s=0.05,
    rapid_cooldown_max_s=0.1,
)


class Door:
    """A WebSocketClient joined to an agent's contacts, with what it was told in order."""

    def __init__(self, sandbox, agent=ALICE, key=ALICE_KEY):
        self.told = []
        self.news = asyncio.Event()
        self.reconnects = 0
        self.agent = agent
        self.client = WebSocketClient(sandbox.ws_url, key, agent, on_reconnect=self.reconnected)

    async def reconnected(self):
        self.reconnects += 1
        self.news.set()

    def hear(self, event):
        async def callback(payload):
            self.told.append((event, payload))
            self.news.set()

        return callback

    async def __aenter__(self):
        await self.client.__aenter__()
        self.client.client.reconnect_policy = QUICK
        await self.client.join_agent_contacts_channel(
            self.agent, self.hear("received"), self.hear("updated"), self.hear("added"), self.hear("removed")
        )
        return self

    async def __aexit__(self, *failure):
        await self.client.__aexit__(*failure)

    async def until(self, condition, what):
        async def wait():
            while not condition():
                self.news.clear()
                await self.news.wait()

        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except TimeoutError:
            raise AssertionError(f"never: {what}; told so far: {self.told}") from None

    async def next(self, event):
        await self.until(lambda: any(name == event for name, _ in self.told), event)
        at = next(at for at, (name, _) in enumerate(self.told) if name == event)
        return self.told.pop(at)[1]


class Socket(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)

    def contacts(self, key):
        return AsyncRestClient(api_key=key, base_url=self.sandbox.url).agent_api_contacts

    async def test_all_four_contact_events_reach_both_agents(self):
        async with Door(self.sandbox) as alice, Door(self.sandbox, BOB, BOB_KEY) as bob:
            added = (await self.contacts(BOB_KEY).add_agent_contact(handle=ALICE_HANDLE, message="hi")).data
            received = await alice.next("received")
            self.assertEqual((received.id, received.status, received.message), (added.id, "pending", "hi"))
            self.assertEqual((received.from_handle, received.from_name), (BOB_HANDLE, "Bob"))
            await self.contacts(ALICE_KEY).respond_to_agent_contact_request(action="approve", request_id=added.id)
            for door, other in ((alice, BOB_HANDLE), (bob, ALICE_HANDLE)):
                updated = await door.next("updated")
                self.assertEqual((updated.id, updated.status), (added.id, "approved"))
                contact = await door.next("added")
                self.assertEqual((contact.handle, contact.type), (other, "Agent"))
                door.contact = contact.id
            await self.contacts(BOB_KEY).remove_agent_contact(handle=ALICE_HANDLE)
            for door in (alice, bob):
                self.assertEqual((await door.next("removed")).id, door.contact)
                self.assertEqual(door.client.validation_error_count, 0)
                self.assertEqual(door.told, [])

    async def test_every_terminal_status_is_told(self):
        async with Door(self.sandbox) as alice:
            for status in ("rejected", "expired", "cancelled", "approved"):
                request = self.sandbox.ask(from_handle=f"who-{status}")
                self.assertEqual((await alice.next("received")).id, request)
                self.sandbox.settle(request, status)
                updated = await alice.next("updated")
                self.assertEqual((updated.id, updated.status), (request, status))
            self.assertEqual((await alice.next("added")).handle, "who-approved")

    async def test_absent_and_null_fields_pass_the_clients_validation(self):
        async with Door(self.sandbox) as alice:
            bare = self.sandbox.ask()
            received = await alice.next("received")
            self.assertEqual((received.id, received.from_handle, received.from_name), (bare, None, None))
            self.sandbox.settle(bare, "approved")
            added = await alice.next("added")
            self.assertEqual((added.handle, added.name), (None, None))
            self.assertEqual(alice.client.validation_error_count, 0)

    async def test_it_comes_back_after_a_kick_and_after_a_drop(self):
        async with Door(self.sandbox) as alice:
            for times, code in enumerate((1000, 1001, 1012, 0), start=1):
                self.sandbox.kick(code=code)
                await alice.until(lambda times=times: alice.reconnects >= times, f"a reconnect after {code}")
                request = self.sandbox.ask(from_handle=f"after-{times}")
                self.assertEqual((await alice.next("received")).id, request)
            joins = [join for join in self.sandbox.state()["joins"] if join["topic"] == f"agent_contacts:{ALICE}"]
            self.assertEqual([join["reply"] for join in joins], ["ok"] * 5)

    async def test_a_crashed_channel_is_joined_again_on_the_same_socket(self):
        async with Door(self.sandbox) as alice:
            self.sandbox.fault(at="push", do="crash-channel")
            self.sandbox.ask(from_handle="lost")
            topic = f"agent_contacts:{ALICE}"
            await until(
                lambda: [join["topic"] for join in self.sandbox.state()["joins"]].count(topic) == 2, "a second join"
            )
            request = self.sandbox.ask(from_handle="found")
            self.assertEqual((await alice.next("received")).id, request)
            self.assertEqual(alice.reconnects, 0)

    async def test_heartbeats_are_answered(self):
        async with Door(self.sandbox) as alice:
            acks = asyncio.Event()
            phoenix = alice.client.client
            phoenix._on_heartbeat_ack = acks.set
            phoenix._heartbeat_interval_s = 0.05
            self.sandbox.kick()
            await alice.until(lambda: alice.reconnects == 1, "a reconnect")
            await asyncio.wait_for(acks.wait(), PATIENCE)

    async def test_leaving_ends_the_events(self):
        async with Door(self.sandbox) as alice:
            await alice.client.leave_agent_contacts_channel(ALICE)
            self.assertEqual(alice.client.joined_topics(), frozenset())
            [live] = self.sandbox.state()["live"]
            self.assertEqual(live["topics"], [])

    async def test_anothers_topic_is_unauthorized(self):
        async with Door(self.sandbox) as alice:
            async def ignore(_):
                pass

            with self.assertRaisesRegex(PHXTopicError, "unauthorized"):
                await alice.client.join_agent_contacts_channel(BOB, ignore, ignore, ignore, ignore)

    async def test_the_owners_key_with_agent_id_is_the_agent(self):
        async with Door(self.sandbox, ALICE, JOHN_KEY) as alice:
            request = self.sandbox.ask(from_handle="stranger")
            self.assertEqual((await alice.next("received")).id, request)

    async def test_a_push_with_a_null_join_ref_is_dropped_by_this_client(self):
        self.sandbox.close()
        self.sandbox = Sandbox("--null-join-ref")
        self.addCleanup(self.sandbox.close)
        async with Door(self.sandbox) as alice:
            request = self.sandbox.ask(from_handle="stranger")
            await until(lambda: self.sandbox.state()["requests"][0]["pushed"] == 1, "the push")
            # A reply to a later frame on the same topic proves that the push was read before it.
            await alice.client.leave_agent_contacts_channel(ALICE)
            self.assertEqual(alice.told, [])
            self.assertEqual(self.sandbox.status_of(request), "pending")

    async def refused_and_tried_again(self, agent, key, status):
        door = Door(self.sandbox, agent, key)
        connecting = asyncio.create_task(door.client.__aenter__())
        await until(lambda: len(self.sandbox.state()["connects"]) >= 3, "another try")
        self.assertFalse(connecting.done())
        connecting.cancel()
        self.assertEqual({connect["status"] for connect in self.sandbox.state()["connects"]}, {status})

    async def test_401_and_403_at_the_upgrade_are_no_final_answer_to_this_client(self):
        # It takes only 400, 409, 429 and 503 for the platform's word; these it tries again, like a broken connection.
        await self.refused_and_tried_again(ALICE, "no-such-key", 401)

    async def test_another_agents_key_is_refused_at_the_upgrade(self):
        await self.refused_and_tried_again(BOB, ALICE_KEY, 403)

    async def test_400_at_the_upgrade_is_final_and_typed(self):
        self.sandbox.fault(at="upgrade", do="status", code=400, count=0)
        with self.assertRaises(WebSocketUpgradeError) as refused:
            async with Door(self.sandbox):
                pass
        self.assertEqual((refused.exception.status_code, refused.exception.code), (400, "invalid_on_conflict"))
        self.assertIsNone(refused.exception.request_id)

    async def test_429_at_the_upgrade_is_waited_for(self):
        # Once for the try, once for the look at the refusal that the client takes after it.
        self.sandbox.fault(at="upgrade", do="status", code=429, ms=1000, count=2)
        async with Door(self.sandbox):
            self.assertEqual([connect["status"] for connect in self.sandbox.state()["connects"]], [429, 429, 101])


if __name__ == "__main__":
    unittest.main()

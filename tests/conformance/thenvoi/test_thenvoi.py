"""The last thenvoi-sdk and its REST client against the sandbox: the key in the URL, no conflict policy, strict names."""

import asyncio
import unittest

from sandbox import ALICE, ALICE_HANDLE, ALICE_KEY, BOB, BOB_HANDLE, BOB_KEY, PATIENCE, Sandbox
from thenvoi.client.rest import AsyncRestClient
from thenvoi.client.streaming.client import WebSocketClient
from thenvoi_rest.errors.conflict_error import ConflictError
from thenvoi_rest.errors.not_found_error import NotFoundError
from thenvoi_rest.errors.unauthorized_error import UnauthorizedError


class Thenvoi(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)
        self.alice = self.client(ALICE_KEY).agent_api_contacts
        self.bob = self.client(BOB_KEY).agent_api_contacts

    def client(self, key):
        return AsyncRestClient(api_key=key, base_url=self.sandbox.url)

    async def test_rest_calls_and_errors(self):
        me = (await self.client(ALICE_KEY).agent_api_identity.get_agent_me()).data
        self.assertEqual((me.id, me.handle), (ALICE, ALICE_HANDLE))
        added = (await self.bob.add_agent_contact(handle=ALICE_HANDLE, message="hello")).data
        listed = (await self.alice.list_agent_contact_requests()).data.received
        self.assertEqual([row.id for row in listed], [added.id])
        answer = {"action": "approve", "request_id": added.id, "request_options": {"max_retries": 0}}
        done = await self.alice.respond_to_agent_contact_request(**answer)
        self.assertEqual(done.data.status, "approved")
        with self.assertRaises(ConflictError):
            await self.alice.respond_to_agent_contact_request(**answer)
        [row] = (await self.alice.list_agent_contacts()).data
        self.assertEqual(row.handle, BOB_HANDLE)
        self.assertEqual((await self.alice.remove_agent_contact(handle=BOB_HANDLE)).data.status, "removed")
        with self.assertRaises(NotFoundError):
            await self.alice.add_agent_contact(handle="nobody/here")
        with self.assertRaises(UnauthorizedError):
            await self.client("no-such-key").agent_api_identity.get_agent_me()

    async def test_events_and_a_reconnect(self):
        told = asyncio.Queue()
        back = asyncio.Event()

        def hear(event):
            async def callback(payload):
                await told.put((event, payload.id))

            return callback

        async def reconnected():
            back.set()

        async def next_event():
            return await asyncio.wait_for(told.get(), PATIENCE)

        async with WebSocketClient(self.sandbox.ws_url, ALICE_KEY, ALICE, on_reconnect=reconnected) as client:
            await client.join_agent_contacts_channel(
                ALICE, hear("received"), hear("updated"), hear("added"), hear("removed")
            )
            [connect] = self.sandbox.state()["connects"]
            self.assertEqual((connect["status"], connect["key"], connect["agent"]), (101, "query", ALICE))
            first = (await self.bob.add_agent_contact(handle=ALICE_HANDLE)).data.id
            self.assertEqual(await next_event(), ("received", first))
            await self.alice.respond_to_agent_contact_request(action="approve", request_id=first)
            self.assertEqual(await next_event(), ("updated", first))
            self.assertEqual((await next_event())[0], "added")
            await self.bob.remove_agent_contact(handle=ALICE_HANDLE)
            self.assertEqual((await next_event())[0], "removed")
            for code in (1000, 1012):
                back.clear()
                self.sandbox.kick(code=code)
                await asyncio.wait_for(back.wait(), PATIENCE)
                after = self.sandbox.ask(from_handle=f"after-{code}", from_name="Stranger")
                self.assertEqual(await next_event(), ("received", after))
            self.assertEqual(client.validation_error_count, 0)

    async def test_a_request_without_a_name_is_dropped_by_this_client(self):
        told = []

        async def hear(payload):
            told.append(payload.id)

        async with WebSocketClient(self.sandbox.ws_url, BOB_KEY, BOB) as client:
            await client.join_agent_contacts_channel(BOB, hear, hear, hear, hear)
            self.sandbox.ask(to=BOB, from_handle="nameless")
            named = self.sandbox.ask(to=BOB, from_handle="named", from_name="Named")
            end = asyncio.get_running_loop().time() + PATIENCE
            while named not in told and asyncio.get_running_loop().time() < end:
                await asyncio.sleep(0.01)
            self.assertEqual(told, [named])
            self.assertEqual(client.validation_error_count, 1)


if __name__ == "__main__":
    unittest.main()

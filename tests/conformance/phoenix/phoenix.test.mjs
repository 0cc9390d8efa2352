// The `phoenix` client from npm on the sandbox's socket.

import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { Socket } from "phoenix"
import WebSocket from "ws"
import { ALICE, ALICE_KEY, BOB, Diary, Sandbox } from "./sandbox.mjs"

let sandbox, socket, diary

beforeEach(async () => {
  sandbox = await Sandbox.start()
  diary = new Diary()
})

afterEach(async () => {
  await new Promise(resolve => (socket ? socket.disconnect(resolve) : resolve()))
  socket = undefined
  await sandbox.stop()
})

function connect(params = {}, options = {}) {
  socket = new Socket(sandbox.socketUrl, {
    transport: WebSocket,
    params: { api_key: ALICE_KEY, agent_id: ALICE, ...params },
    reconnectAfterMs: () => 20,
    rejoinAfterMs: () => 20,
    ...options,
  })
  socket.onOpen(() => diary.write("open"))
  socket.onClose(event => diary.write("close", event.code))
  socket.onMessage(message => {
    diary.write(`raw ${message.event}`, message)
    return message
  })
  socket.connect()
  return socket
}

// Joins a topic; the channel's errors and closes go to the diary.
async function join(topic, events = []) {
  const channel = socket.channel(topic, {})
  for (const event of events) channel.on(event, payload => diary.write(event, payload))
  channel.onError(reason => diary.write("channel error", reason))
  channel.onClose(reason => diary.write("channel close", reason))
  const reply = await new Promise(resolve => {
    channel
      .join()
      .receive("ok", response => resolve({ status: "ok", response }))
      .receive("error", response => resolve({ status: "error", response }))
      .receive("timeout", () => resolve({ status: "timeout" }))
  })
  return { channel, reply }
}

const CONTACTS = `agent_contacts:${ALICE}`
const RECEIVED = "contact_request_received"
const UPDATED = "contact_request_updated"

async function joined() {
  connect()
  const { channel, reply } = await join(CONTACTS, [RECEIVED, UPDATED, "contact_added", "contact_removed"])
  assert.deepEqual(reply, { status: "ok", response: {} })
  return channel
}

test("joins: contacts, control and rooms are served, others are not", async () => {
  await joined()
  for (const topic of [`agent_control:${ALICE}`, `agent_rooms:${ALICE}`]) {
    assert.deepEqual((await join(topic)).reply, { status: "ok", response: {} }, topic)
  }
  const theirs = await join(`agent_contacts:${BOB}`)
  assert.deepEqual(theirs.reply, { status: "error", response: { reason: "unauthorized" } })
  theirs.channel.leave()
  // The reply for a topic that no channel serves has no join_ref, yet the client finds it by its ref.
  const nobodys = await join("nope:1")
  assert.deepEqual(nobodys.reply, { status: "error", response: { reason: "unmatched topic" } })
  nobodys.channel.leave()
})

test("pushes: each event comes with the join's ref", async () => {
  const channel = await joined()
  const id = await sandbox.ask({ from_handle: "stranger", from_name: "A stranger", message: "hi" })
  const received = await diary.next(RECEIVED)
  assert.equal(received.id, id)
  assert.equal(received.status, "pending")
  assert.equal(received.from_handle, "stranger")
  assert.ok(!Number.isNaN(Date.parse(received.inserted_at)))
  const raw = await diary.next(`raw ${RECEIVED}`)
  assert.equal(raw.join_ref, channel.joinRef())
  assert.equal(raw.ref, null)
  await sandbox.control("POST", `requests/${id}`, { status: "approved" })
  assert.deepEqual(await diary.next(UPDATED), { id, status: "approved" })
  assert.equal((await diary.next("contact_added")).handle, "stranger")
})

test("pushes: an event with a null join_ref is taken, too", async () => {
  await sandbox.stop()
  sandbox = await Sandbox.start("--null-join-ref")
  await joined()
  const id = await sandbox.ask({ from_handle: "stranger" })
  assert.equal((await diary.next(RECEIVED)).id, id)
  assert.equal((await diary.next(`raw ${RECEIVED}`)).join_ref, null)
})

test("a burst arrives whole and in order", async () => {
  await joined()
  await sandbox.control("POST", "requests", { to: ALICE, from_handle: "s-{n}", count: 20_000 })
  for (let n = 1; n <= 20_000; n++) assert.equal((await diary.next(RECEIVED)).from_handle, `s-${n}`)
})

test("leave: a reply, then phx_close", async () => {
  const channel = await joined()
  await new Promise((resolve, reject) => channel.leave().receive("ok", resolve).receive("timeout", reject))
  assert.equal(await diary.next("channel close"), "leave")
  const closed = await diary.next("raw phx_close")
  assert.equal(closed.topic, CONTACTS)
  assert.deepEqual((await sandbox.state()).live[0].topics, [])
})

test("phx_error: the client joins again on the same socket", async () => {
  const channel = await joined()
  const before = channel.joinRef()
  await sandbox.fault({ at: "push", do: "crash-channel" })
  await sandbox.ask({ from_handle: "lost" })
  await diary.next("channel error")
  const error = await diary.next("raw phx_error")
  assert.equal(error.join_ref, before)
  assert.equal(error.ref, before)
  await rejoined(channel)
  assert.notEqual(channel.joinRef(), before)
  const id = await sandbox.ask({ from_handle: "found" })
  assert.equal((await diary.next(RECEIVED)).id, id)
  assert.equal((await sandbox.state()).connects.length, 1)
})

test("phx_close: a second join of a topic closes the first", async () => {
  const first = await joined()
  const before = first.joinRef()
  const { reply } = await join(CONTACTS, [RECEIVED])
  assert.equal(reply.status, "ok")
  // The client leaves the older channel itself; whichever comes first, the close is for the old join.
  const closed = await diary.next("raw phx_close")
  assert.equal(closed.join_ref, before)
  const id = await sandbox.ask({ from_handle: "once" })
  assert.equal((await diary.next(RECEIVED)).id, id)
  assert.ok(!diary.has(RECEIVED), "told twice")
})

test("heartbeats are answered, and one that is not ends the connection", async () => {
  connect({}, { heartbeatIntervalMs: 50 })
  await diary.next("open")
  const beat = await diary.next("raw phx_reply")
  assert.equal(beat.topic, "phoenix")
  assert.equal(beat.join_ref, null)
  assert.deepEqual(beat.payload, { status: "ok", response: {} })
  await sandbox.fault({ at: "heartbeat", do: "drop" })
  await diary.next("close")
  await diary.next("open")
})

test("reconnect: after a close, a drop, and a refused upgrade", async () => {
  const channel = await joined()
  await diary.next("open")
  for (const code of [1000, 1001, 1012, 0]) {
    await sandbox.kick({ code })
    assert.equal(await diary.next("close"), code || 1006)
    await diary.next("open")
    await rejoined(channel)
    const id = await sandbox.ask({ from_handle: `after-${code}` })
    assert.equal((await diary.next(RECEIVED)).id, id)
  }
  await sandbox.fault({ at: "upgrade", do: "status", code: 503, count: 2 })
  await sandbox.kick()
  await rejoined(channel, 6)
  const statuses = (await sandbox.state()).connects.map(connect => connect.status)
  assert.deepEqual(statuses, [101, 101, 101, 101, 101, 503, 503, 101])
})

test("an event the channel does not know crashes it", async () => {
  const channel = await joined()
  channel.push("shout", {})
  await diary.next("channel error")
  await rejoined(channel)
})

test("a refused key never opens", async () => {
  connect({ api_key: "no-such-key" })
  assert.equal(await diary.next("close"), 1006)
  assert.ok(!diary.has("open"))
})

test("supersede: told on agent_control, then closed", async () => {
  connect()
  await join(`agent_control:${ALICE}`, ["supersede"])
  const rival = new WebSocket(`${sandbox.socketUrl}/websocket?vsn=2.0.0&api_key=${ALICE_KEY}&agent_id=${ALICE}`)
  await new Promise((resolve, reject) => rival.once("open", resolve).once("error", reject))
  const told = await diary.next("supersede")
  assert.equal(told.retryable, false)
  assert.ok(told.reason && told.message && told.correlation_id)
  await diary.next("close")
  await new Promise(resolve => socket.disconnect(resolve))
  rival.terminate()
})

// Waits until the server has seen `times` joins of the contacts that it granted, and the client knows of the last.
async function rejoined(channel, times) {
  const end = Date.now() + 30_000
  for (;;) {
    const granted = (await sandbox.state()).joins.filter(join => join.topic === CONTACTS && join.reply === "ok").length
    if (channel.state === "joined" && (times === undefined || granted >= times)) return
    if (Date.now() > end) throw new Error(`never joined again: ${channel.state}, ${granted} joins`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

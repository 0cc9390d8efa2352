// One `doorman sandbox` for one test: a process on a free port, its control calls, and its world.

import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"

export const ALICE = "7d0a0000-0000-4000-8000-00000000000a"
export const BOB = "7d0a0000-0000-4000-8000-00000000000b"
export const ALICE_KEY = "conformance-alice-key"
export const PATIENCE_MS = 30_000

const WORLD = `
[[agents]]
id = "${ALICE}"
key = "${ALICE_KEY}"
handle = "john/alice"
name = "Alice"

[[agents]]
id = "${BOB}"
key = "conformance-bob-key"
handle = "maria/bob"
name = "Bob"
`

export class Sandbox {
  static async start(...options) {
    const sandbox = new Sandbox()
    sandbox.directory = mkdtempSync(join(tmpdir(), "doorman-conformance-"))
    const world = join(sandbox.directory, "world.toml")
    writeFileSync(world, WORLD)
    sandbox.process = spawn(process.env.DOORMAN, ["sandbox", "--listen", "127.0.0.1:0", "--world", world, ...options], {
      stdio: ["ignore", "pipe", "ignore"],
    })
    sandbox.exited = new Promise(resolve => sandbox.process.once("exit", resolve))
    const lines = createInterface({ input: sandbox.process.stdout })
    const first = await Promise.race([
      new Promise(resolve => lines.once("line", resolve)),
      sandbox.exited.then(code => `nothing, and ended with ${code}`),
    ])
    if (!first.startsWith("listening on ")) throw new Error(`the sandbox said ${first}`)
    sandbox.url = first.slice("listening on ".length)
    sandbox.socketUrl = `${sandbox.url.replace("http", "ws")}/api/v1/socket`
    return sandbox
  }

  async stop() {
    this.process.kill("SIGKILL")
    await this.exited
    rmSync(this.directory, { recursive: true })
  }

  async control(method, path, body) {
    const reply = await fetch(`${this.url}/_sandbox/${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const text = await reply.text()
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`)
    return text ? JSON.parse(text) : null
  }

  async ask(fields = {}) {
    return (await this.control("POST", "requests", { to: ALICE, ...fields })).ids[0]
  }

  fault(fault) {
    return this.control("POST", "faults", [fault])
  }

  kick(more = {}) {
    return this.control("POST", "kick", { agent: ALICE, ...more })
  }

  state() {
    return this.control("GET", "state")
  }
}

// What happened, in order, and a way to wait for the next thing that fits.
export class Diary {
  constructor() {
    this.entries = []
    this.waiting = []
  }

  write(kind, what) {
    const entry = { kind, what }
    const at = this.waiting.findIndex(waiter => waiter.fits(entry))
    if (at >= 0) this.waiting.splice(at, 1)[0].resolve(entry.what)
    else this.entries.push(entry)
  }

  // The first entry of this kind that was not taken yet.
  next(kind) {
    const at = this.entries.findIndex(entry => entry.kind === kind)
    if (at >= 0) return Promise.resolve(this.entries.splice(at, 1)[0].what)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`never: ${kind}; so far: ${JSON.stringify(this.entries)}`))
      }, PATIENCE_MS)
      this.waiting.push({
        fits: entry => entry.kind === kind,
        resolve: what => {
          clearTimeout(timer)
          resolve(what)
        },
      })
    })
  }

  has(kind) {
    return this.entries.some(entry => entry.kind === kind)
  }
}

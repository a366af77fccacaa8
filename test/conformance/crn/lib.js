// How the console asks a compute node: with a key of the page that the wallet has
// signed, and which signs each request.
import assert from 'node:assert/strict'
import { webcrypto } from 'node:crypto'

import bs58 from 'bs58'
import WebSocket from 'ws'

const { subtle } = webcrypto

/** The base URL of the compute node, and its hash in the network. */
export const crn = process.env.CONFORMANCE_CRN
export const crnHash = process.env.CONFORMANCE_CRN_HASH
assert.ok(crn, 'CONFORMANCE_CRN is not set: run make test-conformance')

export const domain = new URL(crn).hostname

/** What the compute node answers. */
export async function ask(method, path, { headers = {}, body } = {}) {
  const form = body instanceof FormData
  const json = body !== undefined && !form && typeof body !== 'string'
  const response = await fetch(crn + path, {
    method,
    headers: { Origin: 'https://app.aleph.cloud', ...(json ? { 'Content-Type': 'application/json' } : {}), ...headers },
    body: json ? JSON.stringify(body) : body,
  })
  const text = await response.text()
  let data
  try {
    data = JSON.parse(text)
  } catch {
    // Owners are answered in plain text.
  }
  return { status: response.status, headers: response.headers, text, json: data }
}

/** The document that the compute node answers with 200. */
export async function read(path) {
  const a = await ask('GET', path)
  assert.equal(a.status, 200, `GET ${path}: ${a.status} ${a.text}`)
  return a.json
}

/** Who signs requests: a key that an account of the packages has signed. */
export class Session {
  constructor(account, { host = domain, expires = Date.now() + 86_400_000 } = {}) {
    Object.assign(this, { account, host, expires })
  }

  /** The proof that the key may sign for the account, as an object. */
  async pubKey() {
    if (this.proof) return this.proof
    this.keys = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
    const isSolana = this.account.getChain() === 'SOL'
    const payload = Buffer.from(
      JSON.stringify({
        pubkey: await subtle.exportKey('jwk', this.keys.publicKey),
        alg: 'ECDSA',
        domain: this.host,
        address: this.account.address,
        expires: new Date(this.expires).toISOString(),
        ...(isSolana ? { chain: 'SOL' } : {}),
      }),
    ).toString('hex')
    // Wallets of Solana sign a text, those of Ethereum bytes.
    const signed = await this.account.sign({ time: Date.now() / 1000, sender: this.account.address, getVerificationBuffer: () => Buffer.from(payload, isSolana ? 'utf8' : 'hex') })
    const signature = isSolana ? '0x' + Buffer.from(bs58.decode(JSON.parse(signed).signature)).toString('hex') : signed
    this.proof = { sender: this.account.address, payload, signature, content: { domain: this.host } }
    return this.proof
  }

  /** A signed request, as an object. */
  async operation(method, path) {
    await this.pubKey()
    const payload = Buffer.from(JSON.stringify({ time: new Date().toISOString(), method, path: path.split('?')[0], domain: this.host }))
    const signature = await subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, this.keys.privateKey, payload)
    return { payload: payload.toString('hex'), signature: Buffer.from(signature).toString('hex') }
  }

  async headers(method, path) {
    return { 'X-SignedPubKey': JSON.stringify(await this.pubKey()), 'X-SignedOperation': JSON.stringify(await this.operation(method, path)) }
  }

  /** Asks the compute node for the account. */
  async ask(method, path, body) {
    return ask(method, path, { headers: await this.headers(method, path), body })
  }

  /** Asks for a machine, and returns the answer, which must be 200. */
  async order(vm, name, body) {
    const a = await this.ask('POST', `/control/machine/${vm}/${name}`, body)
    assert.equal(a.status, 200, `${name}: ${a.status} ${a.text}`)
    return a
  }

  /**
   * Follows the log of a machine until a line is found or the node ends it, and returns
   * all frames.
   */
  async log(vm, isLast = () => false) {
    const path = `/control/machine/${vm}/stream_logs`
    const auth = { 'X-SignedPubKey': await this.pubKey(), 'X-SignedOperation': await this.operation('GET', path) }
    const socket = new WebSocket(crn.replace(/^http/, 'ws') + path)
    const frames = []
    await new Promise((resolve, reject) => {
      socket.on('open', () => socket.send(JSON.stringify({ auth })))
      socket.on('message', (data) => {
        frames.push(JSON.parse(data.toString()))
        if (isLast(frames.at(-1))) socket.close()
      })
      socket.on('close', resolve)
      socket.on('error', reject)
    })
    return frames
  }
}

/** Waits until a look at the compute node gives something: machines boot slowly here. */
export async function eventually(what, look, seconds = 600) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const found = await look()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
  assert.fail(`waited ${seconds} s for ${what}`)
}

/** A member of a tar archive. */
export function member(tar, name) {
  const text = (at, length) => tar.toString('latin1', at, at + length).replace(/\0.*$/s, '')
  for (let at = 0; at < tar.length && tar[at]; ) {
    const size = parseInt(text(at + 124, 12), 8)
    if (text(at, 100) === name) return tar.subarray(at + 512, at + 512 + size)
    at += 512 + Math.ceil(size / 512) * 512
  }
  assert.fail(`archive has no ${name}`)
}

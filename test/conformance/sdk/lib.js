// What the tests of clients share: the node, accounts, and requests by hand where a
// package has no method for an endpoint.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'

import { AuthenticatedAlephHttpClient } from '@aleph-sdk/client'
import { importAccountFromPrivateKey } from '@aleph-sdk/ethereum'

/** The base URL of the node under test. */
export const node = process.env.CONFORMANCE_NODE
assert.ok(node, 'CONFORMANCE_NODE is not set: run make test-conformance')

/** The base URL of its WebSockets. */
export const sockets = node.replace(/^http/, 'ws')

/** An Ethereum account with a new key. */
export const newAccount = () => importAccountFromPrivateKey('0x' + randomBytes(32).toString('hex'))

/** A client of the node that signs with an account. */
export const clientOf = (account) => new AuthenticatedAlephHttpClient(account, node)

/** A client of the node with a new account. */
export const newClient = () => clientOf(newAccount())

export const sha256 = (data) => createHash('sha256').update(data).digest('hex')

/** A text that no other test uses. */
export const unique = (prefix) => `${prefix}-${randomBytes(6).toString('hex')}`

/** What the node answers to a GET: its status, its text, and its JSON if it is one. */
export async function get(path) {
  return answer(await fetch(node + path))
}

/** What the node answers to a POST of JSON. */
export async function post(path, body) {
  return answer(await fetch(node + path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }))
}

async function answer(response) {
  const text = await response.text()
  let json
  try {
    json = JSON.parse(text)
  } catch {
    // Refusals are plain text.
  }
  return { status: response.status, text, json }
}

/** GET for an answer that must be one. */
export async function ok(path) {
  const a = await get(path)
  assert.equal(a.status, 200, `GET ${path}: ${a.status} ${a.text}`)
  return a.json
}

/** What became of a message. */
export const statusOf = async (hash) => (await ok(`/api/v0/messages/${hash}`)).status

/** Waits until a look gives something. */
export async function until(what, look, seconds = 15) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const found = await look()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.fail(`waited ${seconds} s for ${what}`)
}

/** Waits until a message is processed, and returns it as the node shows it. */
export const processed = (hash) =>
  until(`message ${hash}`, async () => {
    const a = await get(`/api/v0/messages/${hash}`)
    assert.notEqual(a.json?.status, 'rejected', `message was rejected: ${a.text}`)
    return a.json?.status === 'processed' && a.json
  })

/** Runs a call that must fail, and returns its error. */
export async function fails(call) {
  try {
    await call()
  } catch (err) {
    return err
  }
  assert.fail('the call did not fail')
}

/** The status and the text that an error of axios, or one made of it, has. */
export function refusalOf(err) {
  const response = err.response ?? JSON.parse(err.errors?.[1] ?? '{}')
  return response.status
}

/** Gives credits to an address, as their authority. */
export async function giveCredits(address, amount) {
  const authority = importAccountFromPrivateKey('0x' + process.env.CONFORMANCE_CREDITS)
  await clientOf(authority).createPost({
    postType: 'aleph_credit_distribution',
    channel: 'ALEPH_CREDIT',
    sync: true,
    content: {
      distribution: {
        token: 'ALEPH',
        chain: 'ETH',
        credits: [{ address, amount, price: '1', tx_hash: unique('0x'), provider: 'conformance', payment_method: 'token_transfer' }],
      },
    },
  })
}

let height = Date.now()

/** Says how many tokens an address holds, as who reads the chain for the network. */
export async function setBalance(address, balance) {
  const authority = importAccountFromPrivateKey('0x' + process.env.CONFORMANCE_BALANCES)
  await clientOf(authority).createPost({
    postType: 'balances-update',
    channel: 'SYSINFO',
    sync: true,
    content: { chain: 'ETH', main_height: height++, balances: { [address]: balance }, tags: ['SYSINFO'], platform: 'ALEPH_ETH' },
  })
}

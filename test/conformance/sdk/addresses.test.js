// What addresses have, and what later packages than these ask for.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { get, giveCredits, newClient, ok, setBalance, unique } from './lib.js'

test('an address that nobody knows has nothing', async () => {
  const { address } = newClient().account
  assert.deepEqual(await ok(`/api/v0/addresses/${address}/balance?include_credit_details=true`), {
    address, balance: 0, details: {}, locked_amount: 0, credit_balance: 0, credit_balance_details: [],
  })
  assert.equal((await get(`/api/v0/addresses/${address}/credit_history`)).status, 404)
  assert.equal((await get(`/api/v0/addresses/${address}/files`)).status, 404)
})

test('tokens and credits are counted', async () => {
  const { address } = newClient().account
  await setBalance(address, 12.5)
  await giveCredits(address, 7_000_000)
  const have = await ok(`/api/v0/addresses/${address}/balance`)
  assert.equal(have.balance, 12.5)
  assert.deepEqual(have.details, { ETH: 12.5 })
  assert.equal(have.credit_balance, 7_000_000)
  const { credit_history: history } = await ok(`/api/v0/addresses/${address}/credit_history?pagination=10`)
  assert.equal(history.length, 1)
  assert.equal(history[0].amount, 7_000_000)
  assert.equal(history[0].provider, 'conformance')
  const { credit_balances: all } = await ok('/api/v0/credit_balances?pagination=0')
  assert.ok(all.some((row) => row.address === address && row.credits === 7_000_000))
  const { balances } = await ok('/api/v0/balances?pagination=0')
  assert.ok(balances.some((row) => row.address === address && row.balance === '12.5' || Number(row.balance) === 12.5))
})

test('credits are given on', async () => {
  const a = newClient()
  const b = newClient()
  await giveCredits(a.account.address, 1000)
  await a.createPost({ postType: 'aleph_credit_transfer', channel: 'ALEPH_CREDIT', content: { transfer: { credits: [{ address: b.account.address, amount: 400 }] } }, sync: true })
  assert.equal((await ok(`/api/v0/addresses/${a.account.address}/balance`)).credit_balance, 600)
  assert.equal((await ok(`/api/v0/addresses/${b.account.address}/balance`)).credit_balance, 400)
})

test('what an address has written is counted', async () => {
  const client = newClient()
  const { address } = client.account
  const channel = unique('channel')
  await client.createPost({ postType: 'kind', channel, content: {}, sync: true })
  await client.createAggregate({ key: 'k', content: {}, sync: true })
  const { data } = await ok(`/api/v0/addresses/stats.json?addresses[]=${address}`)
  assert.deepEqual(data[address], { messages: 2, aggregate: 1, forget: 0, instance: 0, post: 1, program: 0, store: 0 })
  assert.deepEqual((await ok(`/api/v0/addresses/${address}/post_types`)).post_types, ['kind'])
  assert.deepEqual((await ok(`/api/v0/addresses/${address}/channels`)).channels, [channel])
})

test('the node tells about itself', async () => {
  assert.match((await ok('/version')).version, /^\d+\.\d+\.\d+/)
  assert.ok(Array.isArray((await ok('/api/v0/info/public.json')).node_multi_addresses))
  assert.ok(Array.isArray((await ok('/api/v0/channels/list.json')).channels))
})

// A program, brought by the packages and called on a compute node.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { giveCredits, newClient, processed } from '../sdk/lib.js'
import { ask, eventually, read } from './lib.js'

test('a program is called by its path', { timeout: 900_000 }, async () => {
  const client = newClient()
  await giveCredits(client.account.address, 100_000_000_000)
  const sent = await client.createProgram({
    channel: 'CONFORMANCE',
    file: new Blob([readFileSync(process.env.CONFORMANCE_CODE)]),
    storageEngine: 'storage',
    entrypoint: 'main:app',
    runtime: process.env.CONFORMANCE_RUNTIME,
    memory: 256,
    payment: { chain: 'ETH', type: 'credit' },
  })
  await processed(sent.item_hash)
  const path = `/vm/${sent.item_hash}`
  // The packages give a program 30 seconds a call, and may not be asked for more.
  await eventually('the first answer', async () => (await ask('GET', `${path}/`)).status !== 504)
  const first = await ask('GET', `${path}/?a=1`)
  assert.deepEqual([first.status, first.json], [200, { path: '/', query: 'a=1', method: 'GET', body: '' }], first.text)
  assert.equal(first.headers.get('aleph-program-itemhash'), sent.item_hash)
  const second = await ask('POST', `${path}/a/b`, { body: 'hello' })
  assert.deepEqual(second.json, { path: '/a/b', query: '', method: 'POST', body: 'hello' })
  const none = await ask('GET', `${path}/none`)
  assert.deepEqual([none.status, none.json.path], [404, '/none'])
  const broken = await ask('GET', `${path}/raise`)
  assert.equal(broken.status, 500)
  assert.match(broken.text, /ValueError: on purpose/)
  const execution = await eventually('the program to be listed', async () => (await read('/v2/about/executions/list'))[sent.item_hash], 30)
  assert.deepEqual([execution.running, execution.vm_type], [true, 'microvm'])
})

test('what is no program is not called', async () => {
  const nobody = await ask('GET', `/vm/${'0'.repeat(64)}/`)
  assert.deepEqual([nobody.status, typeof nobody.json.error], [404, 'string'])
  const wrong = await ask('GET', '/vm/x/')
  assert.deepEqual([wrong.status, wrong.json], [400, { error: 'Invalid message reference: x' }])
  const unknown = await ask('GET', '/about/nothing')
  assert.deepEqual([unknown.status, unknown.json], [404, { error: '404: Not Found' }])
})

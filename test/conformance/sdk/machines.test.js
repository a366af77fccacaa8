// Programs and instances: written, paid, priced and read.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { fails, giveCredits, newClient, ok, post, processed, setBalance, statusOf, unique } from './lib.js'

const credit = { chain: 'ETH', type: 'credit' }

/** A client whose account has credits, and the STORE of a file of its own. */
async function rich() {
  const client = newClient()
  await giveCredits(client.account.address, 100_000_000_000)
  const file = await client.createStore({ fileObject: new Blob([unique('image')]), storageEngine: 'storage', sync: true })
  return { client, file }
}

test('an instance that is paid by credit is processed', async () => {
  const { client, file } = await rich()
  const sent = await client.createInstance({
    channel: 'CONFORMANCE',
    metadata: { name: 'one', tags: ['conformance'] },
    authorized_keys: ['ssh-ed25519 AAAA test'],
    resources: { vcpus: 1, memory: 2048 },
    rootfs: { parent: { ref: file.item_hash } },
    volumes: [{ name: 'data', mount: '/data', persistence: 'host', size_mib: 100 }, { ref: file.item_hash, mount: '/opt', use_latest: true }],
    payment: credit,
  })
  const { message } = await processed(sent.item_hash)
  assert.equal(message.type, 'INSTANCE')
  assert.equal(message.content.rootfs.size_mib, 20480)
  assert.equal(message.content.environment.hypervisor, 'qemu')
  assert.deepEqual(message.content.metadata, { name: 'one', tags: ['conformance'] })
  const { messages } = await client.getMessages({ addresses: [client.account.address], messageTypes: ['INSTANCE'], paymentTypes: ['credit'] })
  assert.deepEqual(messages.map((m) => m.item_hash), [sent.item_hash])

  const cost = await client.instanceClient.getCost(sent.item_hash)
  assert.equal(cost.payment_type, 'credit')
  assert.match(cost.cost, /^\d+\.\d{18}$/)
  assert.ok(cost.detail.some((line) => line.type === 'EXECUTION' && line.cost_credit === '3.958333333333333333'), JSON.stringify(cost.detail))
})

test('an instance without credits is refused', async () => {
  const client = newClient()
  const file = await client.createStore({ fileObject: new Blob([unique('image')]), storageEngine: 'storage', sync: true })
  const err = await fails(() => client.createInstance({ channel: 'CONFORMANCE', resources: { vcpus: 1, memory: 2048 }, rootfs: { parent: { ref: file.item_hash } }, payment: credit }))
  assert.equal(err.name, 'InvalidMessageError', String(err))
  const { message } = JSON.parse(JSON.parse(err.errors[1]).config.data)
  const shown = await ok(`/api/v0/messages/${message.item_hash}`)
  assert.equal(shown.error_code, 6)
  assert.deepEqual(Object.keys(shown.details.errors[0]).sort(), ['account_credits', 'min_runtime_days', 'required_credits'])
})

test('an instance of an image that nobody stored is pending', async () => {
  const { client } = await rich()
  const sent = await client.createInstance({ channel: 'CONFORMANCE', resources: { vcpus: 1, memory: 2048 }, payment: credit })
  assert.equal(await statusOf(sent.item_hash), 'pending')
  const { messages } = await ok(`/api/v0/messages/${sent.item_hash}`)
  assert.equal(messages[0].item_hash, sent.item_hash)
})

test('a program is brought with its code and processed', async () => {
  const { client, file } = await rich()
  const sent = await client.createProgram({
    channel: 'CONFORMANCE',
    file: new Blob([unique('code')]),
    storageEngine: 'storage',
    entrypoint: 'main:app',
    runtime: file.item_hash,
    variables: { A: 'b' },
    subscriptions: [{ sender: client.account.address }],
    payment: credit,
  })
  const { message } = await processed(sent.item_hash)
  assert.equal(message.content.type, 'vm-function')
  assert.equal(message.content.code.entrypoint, 'main:app')
  assert.equal(message.content.runtime.ref, file.item_hash)
  assert.deepEqual(message.content.variables, { A: 'b' })
  const triggers = await ok('/api/v0/programs/on/message')
  assert.deepEqual(triggers.find((p) => p.item_hash === sent.item_hash)?.content.on.message, [{ sender: client.account.address }])

  // Its code is in use, so it may not go.
  const err = await fails(() => client.forget({ hashes: [message.content.code.ref], sync: true }))
  assert.equal(err.name, 'InvalidMessageError', String(err))
  await client.forget({ hashes: [sent.item_hash], sync: true })
  assert.equal(await statusOf(sent.item_hash), 'forgotten')
})

test('a program may run code that is there', async () => {
  const { client, file } = await rich()
  const sent = await client.programClient.spawn({ account: client.account, channel: 'CONFORMANCE', programRef: file.item_hash, entrypoint: 'main:app', runtime: file.item_hash, isPersistent: true, payment: credit })
  assert.equal((await processed(sent.item_hash)).message.content.on.persistent, true)
  await assert.rejects(() => client.createProgram({ channel: 'C', programRef: '0'.repeat(64), entrypoint: 'x' }), /does not exist/)
})

test('a program is paid by what its owner holds', async () => {
  const client = newClient()
  const { address } = client.account
  await setBalance(address, 100)
  const file = await client.createStore({ fileObject: new Blob([unique('code')]), storageEngine: 'storage', sync: true })
  const config = { channel: 'CONFORMANCE', programRef: file.item_hash, entrypoint: 'main:app', runtime: file.item_hash }
  const err = await fails(() => client.createProgram(config))
  assert.equal(err.name, 'InvalidMessageError', String(err))
  const { message } = JSON.parse(JSON.parse(err.errors[1]).config.data)
  assert.equal((await ok(`/api/v0/messages/${message.item_hash}`)).error_code, 5)
  await setBalance(address, 5000)
  const sent = await client.createProgram(config)
  await processed(sent.item_hash)
  const { balance, locked_amount } = await ok(`/api/v0/addresses/${address}/balance`)
  assert.equal(balance, 5000)
  // One unit with the internet costs two hundred tokens twice.
  assert.ok(locked_amount >= 400 && locked_amount < 401, `locked ${locked_amount}`)
})

test('what a machine or a file will cost is told before', async () => {
  const { client, file } = await rich()
  const instance = await client.instanceClient.getEstimatedCost({ account: client.account, resources: { vcpus: 2, memory: 4096 }, rootfs: { parent: { ref: file.item_hash } }, payment: credit })
  assert.equal(instance.payment_type, 'credit')
  assert.equal(instance.cost, '7.916666666666666666')

  const program = await client.programClient.getEstimatedCost({ account: client.account, channel: 'C', file: new Blob(['code']), entrypoint: 'main:app', runtime: file.item_hash })
  assert.equal(program.payment_type, 'hold')
  assert.ok(program.detail.some((line) => line.type === 'EXECUTION' && line.cost_hold === '400.000000000000000000'), JSON.stringify(program.detail))

  const store = await client.storeClient.getEstimatedCost({ account: client.account, fileObject: new Blob(['x'.repeat(2 << 20)]), storageEngine: 'storage', payment: { chain: 'ETH', type: 'hold' } })
  assert.equal(store.cost, '0.666666666000000000')
  assert.deepEqual(store.detail.map((line) => [line.type, line.size_mib]), [['STORAGE', 2]])
  assert.equal(store.required_tokens, 0.666666666)
})

test('later packages ask for the price of an instance by its content alone', async () => {
  const { client, file } = await rich()
  const { item_content } = await client.instanceClient.getCostComputableMessage({ account: client.account, resources: { vcpus: 1, memory: 2048 }, rootfs: { parent: { ref: file.item_hash } }, payment: credit })
  const a = await post('/api/v0/price/estimate/instance', JSON.parse(item_content))
  assert.equal(a.status, 200, a.text)
  assert.equal(a.json.cost, '3.958333333333333333')
})

// The life of an instance, from its message to its end, with accounts of the packages
// and the requests that the console makes.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { newAccount as newSolana } from '@aleph-sdk/solana'

import { giveCredits, newAccount, newClient, processed, sha256, unique } from '../sdk/lib.js'
import { ask, crn, crnHash, eventually, member, read, Session } from './lib.js'

const image = process.env.CONFORMANCE_IMAGE
const client = newClient()
const owner = new Session(client.account)
const delegate = new Session(newSolana().account)
const here = { node: { node_hash: crnHash } }
const machine = (vm, name) => `/control/machine/${vm}/${name}`
const nobody = '0'.repeat(64)
const notify = (instance) => ask('POST', '/control/allocation/notify', { body: { instance } })
const listed = async (vm) => (await read('/v2/about/executions/list'))[vm]

/** Publishes an instance that boots the image of the test. */
async function instance(change = {}) {
  const sent = await client.createInstance({
    channel: 'CONFORMANCE',
    metadata: { name: unique('vm') },
    authorized_keys: [readFileSync(process.env.CONFORMANCE_SSH_KEY, 'utf8').trim()],
    resources: { vcpus: 1, memory: 256 },
    rootfs: { parent: { ref: image, use_latest: true }, persistence: 'host', size_mib: 1024 },
    requirements: here,
    payment: { chain: 'ETH', type: 'credit' },
    ...change,
  })
  await processed(sent.item_hash)
  return sent.item_hash
}

let vm

test('the owner has credits, and somebody who may act for them', async () => {
  await giveCredits(client.account.address, 100_000_000_000)
  await client.createAggregate({
    key: 'security',
    channel: 'security',
    sync: true,
    content: { authorizations: [{ address: delegate.account.address, chain: 'SOL', types: ['INSTANCE'], channels: [], post_types: [], aggregate_keys: [] }] },
  })
})

test('a node says what it is to those who list and rate it', async () => {
  const usage = await read('/about/usage/system')
  for (const [part, names] of Object.entries({ cpu: ['count', 'load_average', 'core_frequencies'], mem: ['total_kB', 'available_kB'], disk: ['total_kB', 'available_kB'], period: ['start_timestamp', 'duration_seconds'], properties: ['cpu'], gpu: ['devices', 'available_devices'] })) {
    assert.deepEqual(Object.keys(usage[part]).sort(), names.sort(), part)
  }
  assert.equal(usage.active, true)
  const settings = await read('/status/config')
  assert.equal(settings.node_hash, crnHash)
  assert.equal(settings.computing.ENABLE_QEMU_SUPPORT, true)
  assert.equal(settings.computing.INSTANCE_DEFAULT_HYPERVISOR, 'qemu')
  const login = await ask('GET', '/about/login?token=wrong')
  assert.deepEqual([login.status, login.json], [401, { success: false }])
  assert.match(login.headers.get('server'), /^aleph-vm\/\d+\.\d+\.\d+/)
  assert.equal(login.headers.get('access-control-allow-origin'), 'https://app.aleph.cloud')
  assert.match((await ask('GET', '/status/check/version?reference=1.0.0')).text, /^Up-to-date: version /)
  assert.deepEqual(Object.keys((await ask('GET', '/status/check/ipv6')).json).sort(), ['host', 'vm'])
  assert.deepEqual(Object.keys((await ask('GET', '/status/check/host')).json.ipv4).sort(), ['dns', 'domain', 'egress', 'http'])
  assert.equal(typeof (await read('/about/capability')).cpu.count, 'number')
  const preflight = await fetch(crn + machine(nobody, 'reboot'), {
    method: 'OPTIONS',
    headers: { Origin: 'https://app.aleph.cloud', 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'x-signedoperation,x-signedpubkey' },
  })
  assert.equal(preflight.status, 200)
  assert.match(preflight.headers.get('access-control-allow-headers'), /x-signedpubkey/i)
})

test('a node starts only what is a paid instance for it', async () => {
  const refused = async (hash, status, error) => {
    const a = await notify(hash)
    assert.deepEqual([a.status, a.json], [status, { error }])
  }
  await refused(nobody, 404, `Hash not found: ${nobody}`)
  await refused(image, 400, '400: Message is not an instance')
  await refused(await instance({ requirements: { node: { node_hash: 'f'.repeat(64) } } }), 400, '400: Instance is allocated to a different node')
  const malformed = await ask('POST', '/control/allocation/notify', { body: '{' })
  assert.deepEqual([malformed.status, malformed.json], [400, { error: 'Body is not valid JSON' }])
  assert.equal((await notify('x')).status, 400)
})

test('a paid instance starts when the node is told of it', { timeout: 600_000 }, async () => {
  vm = await instance()
  const content = (await processed(vm)).message.content
  const reserved = await owner.ask('POST', '/control/reserve_resources', content)
  assert.deepEqual([reserved.status, reserved.json.status], [200, 'reserved'])
  const told = await notify(vm)
  assert.deepEqual([told.status, told.json], [200, { success: true, successful: true, failing: [], errors: {} }])
  const execution = await eventually('the machine to run', async () => {
    const e = await listed(vm)
    return e?.running && e
  })
  assert.equal(execution.vm_type, 'instance')
  assert.ok(Date.parse(execution.status.defined_at) <= Date.parse(execution.status.starting_at), JSON.stringify(execution.status))
  assert.ok(execution.networking.mapped_ports['22'].tcp)
  for (const name of ['host_ipv4', 'ipv4_network', 'ipv4_ip', 'ipv6_network', 'ipv6_ip']) assert.equal(typeof execution.networking[name], 'string', name)
  const first = (await read('/about/executions/list'))[vm]
  assert.equal(first.vm_type, 'instance')
  assert.deepEqual(Object.keys(first.networking).sort(), ['ipv4', 'ipv6'])
})

test('the log is followed while the machine boots', { timeout: 600_000 }, async () => {
  const frames = await eventually('the machine to be ready', async () => {
    const all = await owner.log(vm, (frame) => /ready after/.test(frame.message))
    return /ready after/.test(all.at(-1)?.message) && all
  })
  assert.deepEqual(frames[0], { status: 'connected' })
  for (const frame of frames.slice(1)) assert.ok(['stdout', 'stderr', 'system'].includes(frame.type), JSON.stringify(frame))
  const [refusal] = await new Session(newAccount()).log(vm)
  assert.deepEqual(refusal, { status: 'failed', reason: 'unauthorized sender' })
  const past = await delegate.ask('GET', machine(vm, 'logs'))
  assert.ok(past.json.some((line) => /ready after/.test(line.MESSAGE) && line.SYSLOG_IDENTIFIER.startsWith(`vm-${vm}-`)), past.text.slice(-500))
})

test('who is not the owner is refused', async () => {
  const path = machine(vm, 'stop')
  const refused = (a, status, error) => assert.deepEqual([a.status, a.json ?? a.text], [status, error])
  refused(await new Session(newAccount()).ask('POST', path), 403, 'Unauthorized sender')
  refused(await ask('POST', path), 400, { error: 'Missing X-SignedPubKey header' })
  refused(await new Session(client.account, { host: 'elsewhere.example' }).ask('POST', path), 401, { error: `Invalid domain: Signed: 'elsewhere.example' != Request: '${new URL(crn).hostname}'` })
  refused(await new Session(client.account, { expires: Date.now() - 1000 }).ask('POST', path), 401, { error: 'Token expired' })
  refused(await ask('POST', path, { headers: await owner.headers('POST', machine(vm, 'erase')) }), 401, { error: `Invalid path. Signed: '${machine(vm, 'erase')}' !=  requested path: '${path}'` })
  refused(await owner.ask('POST', machine(nobody, 'stop')), 404, { error: `No virtual machine with ref ${nobody}` })
  assert.equal((await listed(vm)).running, true)
})

test('a port is forwarded when the owner says so', async () => {
  await client.createAggregate({ key: 'port-forwarding', channel: 'CONFORMANCE', sync: true, content: { [vm]: { ports: { 8080: { tcp: true, udp: false } } } } })
  const update = await ask('POST', machine(vm, 'update'))
  assert.deepEqual([update.status, update.json], [200, {}])
  await eventually('port 8080 to be forwarded', async () => (await listed(vm)).networking.mapped_ports['8080']?.tcp, 60)
  assert.equal((await ask('POST', machine(nobody, 'update'))).status, 404)
})

test('a backup is made, brought, and put back', { timeout: 900_000 }, async () => {
  const path = machine(vm, 'backup')
  assert.equal((await owner.ask('GET', path)).status, 404)
  const begun = await owner.ask('POST', path + '?skip_fsfreeze=true')
  assert.deepEqual([begun.status, begun.json], [202, { status: 'in_progress' }])
  const made = await eventually('the backup', async () => {
    const a = await owner.ask('GET', path)
    assert.ok(a.status === 202 || a.status === 200, `${a.status} ${a.text}`)
    return a.status === 200 && a.json
  })
  assert.ok(Date.parse(made.expires_at) > Date.now())
  const response = await fetch(made.download_url)
  assert.equal(response.status, 200)
  const tar = Buffer.from(await response.arrayBuffer())
  assert.deepEqual([tar.length, 'sha256:' + sha256(tar)], [made.size, made.checksum])
  assert.equal(response.headers.get('x-backup-checksum'), made.checksum)
  assert.equal((await fetch(made.download_url.replace(/signature=./, 'signature=x'))).status, 403)

  const form = new FormData()
  form.append('rootfs', new Blob([member(tar, 'rootfs.qcow2')]), 'rootfs.qcow2')
  assert.deepEqual((await owner.order(vm, 'restore', form)).json, { status: 'restored', vm_hash: vm })
  const wrong = new FormData()
  wrong.append('rootfs', new Blob(['no disk']), 'rootfs.qcow2')
  const refused = await owner.ask('POST', machine(vm, 'restore'), wrong)
  assert.equal(refused.status, 400)
  assert.match(refused.json.error, /^Uploaded file is not a valid QCOW2 disk image/)
  const gone = await owner.ask('DELETE', `${path}/${made.backup_id}`)
  assert.deepEqual([gone.status, gone.text], [200, `Deleted backup ${made.backup_id}`])
  assert.equal((await owner.ask('GET', path)).status, 404)
})

test('it is rebooted by who may act for the owner, stopped, and started', { timeout: 900_000 }, async () => {
  assert.equal((await delegate.order(vm, 'reboot')).text, `Rebooted VM with ref ${vm}`)
  assert.equal((await owner.order(vm, 'stop')).text, `Stopped VM with ref ${vm}`)
  assert.equal((await owner.order(vm, 'stop')).text, 'Already stopped, nothing to do')
  assert.equal((await listed(vm)).running, false)
  const past = await owner.log(vm)
  assert.deepEqual(past.at(-1), { type: 'system', message: 'VM is not running, past logs sent' })
  assert.ok(past.some((frame) => /ready after/.test(frame.message)))
  const backup = await owner.ask('POST', machine(vm, 'backup'))
  assert.deepEqual([backup.status, backup.json], [400, { error: 'VM must be running to create backup' }])
  assert.equal((await owner.order(vm, 'start')).text, `Started VM with ref ${vm}`)
  assert.equal((await owner.order(vm, 'start')).text, 'Already running, nothing to do')
  assert.equal((await owner.order(vm, 'expire', { timeout: 3600 })).text, `Expiring VM with ref ${vm} in 3600.0 seconds`)
  assert.equal((await owner.ask('POST', machine(vm, 'expire'))).status, 400)
})

test('it is installed anew, and erased', { timeout: 900_000 }, async () => {
  assert.equal((await owner.order(vm, 'reinstall?erase_volumes=false')).text, `Reinstalled VM with ref ${vm}`)
  assert.equal((await listed(vm)).running, true)
  assert.equal((await owner.order(vm, 'erase')).text, `Erased VM with ref ${vm}`)
  assert.equal(await listed(vm), undefined)
  assert.equal((await owner.ask('POST', machine(vm, 'reboot'))).status, 404)
})

// What the tests of this folder share.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'

export const url = process.env.ALEPH_API
export const waitMax = 20_000

// peer makes a peer on loopback that serves the table of a protocol.
export async function peer (table, { services, ...more } = {}) {
  return createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      // Of its own, js-libp2p pings a peer it meets, which counts against the streams of a test.
      ping: ping({ maxOutboundStreams: 8 }),
      dht: kadDHT({ protocol: table, clientMode: false, peerInfoMapper: passthroughMapper }),
      ...services
    },
    ...more
  })
}

// until waits for what holds returns.
export async function until (what, holds) {
  const end = Date.now() + waitMax
  for (;;) {
    const got = await holds()
    if (got) return got
    if (Date.now() > end) assert.fail(`waited in vain until ${what}`)
    await sleep(100)
  }
}

// signed returns a signed message.
export async function signed (wallet, type, content) {
  const time = Date.now() / 1000
  const itemContent = JSON.stringify({ ...content, address: wallet.address, time })
  const m = {
    chain: 'ETH', sender: wallet.address, type, channel: 'TEST', time, item_type: 'inline', item_content: itemContent,
    item_hash: createHash('sha256').update(itemContent).digest('hex')
  }
  m.signature = await wallet.signMessage([m.chain, m.sender, m.type, m.item_hash].join('\n'))
  return m
}

// post hands a message to the node, and returns the answer.
export function post (message) {
  return fetch(`${url}/api/v0/messages`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ sync: true, message })
  })
}

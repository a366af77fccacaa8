//! rust-libp2p, unchanged, against a node: what it takes to be one of its peers.
//!
//! The node is that of the environment: ALEPH_API is the base URL of its HTTP interface, ALEPH_TOPIC the
//! gossip topic of messages and ALEPH_ALIVE the one on which it tells that it lives, if it does. ALEPH_RSA
//! names a file with an RSA key (PKCS #8 in DER). A line is printed for each check; the program fails if
//! one does.

mod node;
mod old;
mod peer;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::DialError;
use libp2p::{gossipsub, identify, kad, PeerId};

use node::{until, until_true, want, Message, Node, POLL};
use old::Old;
use peer::{Manner, Peer};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A peer that gossips, of whichever release.
trait Gossiper {
    fn publish(&self, topic: &str, m: &Message) -> Result<()>;
    /// Whether the message came, content and all.
    fn hears(&self, m: &Message) -> bool;
}

/// How often a message is published until a peer hears one.
const REPEAT: Duration = Duration::from_millis(500);
/// Heartbeats of a second in which a message is told of are over after this time.
const TOLD_FOR: Duration = Duration::from_secs(4);
/// Messages of a burst: more than one frame may have.
const BURST: usize = 150;
/// Bytes of a large message, whose frame is still below the bound of 262,144.
const LARGE: usize = 180_000;

/// What the checks have in common.
struct World {
    node: Node,
    topic: String,
    alive: Option<String>,
    rsa: Vec<u8>,
    wallet: Keypair,
    /// Connected by TCP, in the table of the node.
    a: Peer,
    /// Connected by QUIC.
    b: Peer,
}

impl World {
    fn open() -> Result<World> {
        let var = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
        let node = Node::meet(var("ALEPH_API")?)?;
        let (a, b) = (Peer::open(Manner::Usual, &[node.id])?, Peer::open(Manner::Usual, &[node.id])?);
        a.tell(|s| s.behaviour_mut().kad.set_mode(Some(kad::Mode::Server)))?;
        a.listen("/ip4/127.0.0.1/tcp/0".parse()?)?;
        Ok(World {
            node,
            topic: var("ALEPH_TOPIC")?,
            alive: std::env::var("ALEPH_ALIVE").ok(),
            rsa: std::fs::read(var("ALEPH_RSA")?)?,
            wallet: Keypair::generate_ed25519(),
            a,
            b,
        })
    }

    fn message(&self, body: &str) -> Result<Message> {
        Message::sign(&self.wallet, body)
    }

    /// Opens a peer that is connected to the node by TCP and gossips.
    fn member(&self, manner: Manner) -> Result<Peer> {
        let peer = Peer::open(manner, &[self.node.id])?;
        peer.dial(self.node.id, &self.node.tcp)?;
        peer.join(&self.node, &self.topic)?;
        Ok(peer)
    }

    /// The node takes in what the peer publishes, and the peer hears what the node publishes.
    fn both_ways(&self, peer: &dyn Gossiper, who: &str) -> Result<()> {
        let there = self.message(&format!("published by {who}"))?;
        peer.publish(&self.topic, &there)?;
        self.node.until_processed(&there)?;
        // Of what others decode before they read it, the hash must still hold.
        let body = format!("published by the node for {who}: 100%25 \u{e9}");
        self.until_hears(&body, &|m| self.node.publish(m), peer)?;
        want(!peer.hears(&there), || "the peer hears its own message".into())
    }

    /// A message may be missed while a mesh forms: what comes just before a peer is taken into it is
    /// not told of later, and rust-libp2p asks for what it is told of from its first heartbeat on, after
    /// five seconds. So messages are published until the peer hears one.
    fn until_hears(&self, body: &str, publish: &dyn Fn(&Message) -> Result<()>, peer: &dyn Gossiper) -> Result<()> {
        let (mut sent, mut at) = (Vec::<Message>::new(), None::<Instant>);
        until_true("a peer hears what another publishes", || {
            if at.is_none_or(|at| at.elapsed() > REPEAT) {
                let m = self.message(&format!("{body} ({})", sent.len()))?;
                publish(&m)?;
                sent.push(m);
                at = Some(Instant::now());
            }
            Ok(sent.iter().any(|m| peer.hears(m)))
        })
    }

    fn until_passed_on(&self, from: &dyn Gossiper, to: &dyn Gossiper) -> Result<()> {
        self.until_hears("passed on", &|m| from.publish(&self.topic, m), to)
    }
}

/// What is between two ends of a dialled connection, in words of the address.
fn transport(end: &ConnectedPoint) -> Vec<&'static str> {
    end.get_remote_address().iter().map(|p| p.tag()).collect()
}

fn tcp(w: &World) -> Result<()> {
    let (_, end) = w.a.dial(w.node.id, &w.node.tcp)?;
    want(transport(&end).contains(&"tcp"), || format!("connected to {end:?}"))
}

fn quic(w: &World) -> Result<()> {
    let (_, end) = w.b.dial(w.node.id, &w.node.quic)?;
    want(transport(&end).contains(&"quic-v1"), || format!("connected to {end:?}"))
}

/// Who dials a name gets the one who has it, or nobody.
fn another_name(w: &World) -> Result<()> {
    for addr in [&w.node.tcp, &w.node.quic] {
        let other = PeerId::random();
        let peer = Peer::open(Manner::Usual, &[w.node.id, other])?;
        match peer.try_dial(other, addr)? {
            Err(err) => match &*err {
                DialError::WrongPeerId { obtained, .. } if *obtained == w.node.id => {}
                err => return Err(format!("dial another name at {addr}: {err}").into()),
            },
            Ok(_) => return Err(format!("the node at {addr} has any name").into()),
        }
    }
    Ok(())
}

fn identify(w: &World) -> Result<()> {
    for (peer, transport) in [(&w.a, "tcp"), (&w.b, "quic")] {
        let info: identify::Info = until("the node is identified", || Ok(peer.seen().identified.values().next().cloned()))?;
        let protocols: Vec<&str> = info.protocols.iter().map(|p| p.as_ref()).collect();
        for name in ["/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/aleph/kad/1.0.0", "/meshsub/1.1.0", "/aleph/v1/ask", "/aleph/v1/bulk"] {
            want(protocols.contains(&name), || format!("{name} is not among {protocols:?}"))?;
        }
        want(info.agent_version.starts_with("aleph-onchain/"), || format!("the agent is {:?}", info.agent_version))?;
        want(info.public_key.to_peer_id() == w.node.id, || "the key is another's".into())?;
        for addr in [&w.node.tcp, &w.node.quic] {
            want(info.listen_addrs.contains(addr), || format!("{addr} is not among {:?}", info.listen_addrs))?;
        }
        // Both ends see the same.
        let known = w.node.until_peer(&peer.id.to_string(), "the node knows the peer", |p| p["agent"].as_str().is_some_and(|a| !a.is_empty()))?;
        want(known["agent"].as_str().is_some_and(|a| a.starts_with("rust-libp2p/")), || format!("the node knows {known}"))?;
        want(known["direction"] == "in" && known["transport"] == transport, || format!("the node knows {known}, want it by {transport}"))?;
        let observed = info.observed_addr.to_string();
        want(known["addrs"][0] == observed.as_str(), || format!("the node says {observed} to the peer and {known} to others"))?;
    }
    Ok(())
}

fn ping(w: &World) -> Result<()> {
    for peer in [&w.a, &w.b] {
        until_true("the node answers a ping", || Ok(!peer.seen().pinged.is_empty()))?;
        w.node.until_peer(&peer.id.to_string(), "the peer has answered the node's ping", |p| p["latency_ms"].as_f64() > Some(0.0))?;
    }
    Ok(())
}

/// A peer finds another in the table of the node, which asked that one before it took it in. Who only
/// asks is not in it.
fn table(w: &World) -> Result<()> {
    let finder = Peer::open(Manner::Usual, &[w.node.id, w.a.id])?;
    w.a.allow(finder.id)?;
    finder.dial(w.node.id, &w.node.tcp)?;
    let (a, b) = (w.a.id, w.b.id);
    let at = w.a.seen().listening[0].clone();
    until_true("a peer is found", || {
        // Of whom the table can ask there is nobody until the node is identified.
        match finder.ask(move |k| Ok(k.get_closest_peers(a)))? {
            kad::QueryResult::GetClosestPeers(Ok(found)) => {
                want(found.peers.iter().all(|p| p.peer_id != b), || "who only asks is in the table".into())?;
                Ok(found.peers.iter().any(|p| p.peer_id == a && p.addrs.iter().any(|addr| addr.to_string().starts_with(&at.to_string()))))
            }
            _ => Ok(false),
        }
    })?;
    match finder.ask(|k| Ok(k.bootstrap()?))? {
        kad::QueryResult::Bootstrap(Ok(_)) => Ok(()),
        other => Err(format!("the table is not filled: {other:?}").into()),
    }
}

fn gossip_tcp(w: &World) -> Result<()> {
    w.a.join(&w.node, &w.topic)?;
    w.both_ways(&w.a, "rust-libp2p over TCP")
}

fn gossip_quic(w: &World) -> Result<()> {
    w.b.join(&w.node, &w.topic)?;
    w.both_ways(&w.b, "rust-libp2p over QUIC")
}

/// Both sides speak the newest gossip that both have.
fn gossip_version(w: &World) -> Result<()> {
    let id = w.node.id;
    for peer in [&w.a, &w.b] {
        let kind = peer.tell(move |s| s.behaviour().gossip.peer_protocol().find(|(p, _)| **p == id).map(|(_, kind)| kind.to_string()))?;
        want(kind.as_ref().is_some_and(|k| k.ends_with("v1.3")), || format!("they speak {kind:?}, want version 1.3"))?;
    }
    Ok(())
}

fn passed_on(w: &World) -> Result<()> {
    w.until_passed_on(&w.a, &w.b)?;
    w.until_passed_on(&w.b, &w.a)
}

/// A message with another's signature is not passed on, and who sends it loses standing.
fn forged(w: &World) -> Result<()> {
    let liar = w.member(Manner::Usual)?;
    let bad = w.message("bad")?.forged(&w.message("good")?);
    liar.publish(&w.topic, &bad)?;
    w.until_passed_on(&liar, &w.b)?;
    want(!w.a.hears(&bad) && !w.b.hears(&bad), || "a message without a good signature was passed on".into())?;
    let status = w.node.status(&bad)?;
    want(status != "processed", || "a message without a good signature was processed".into())?;
    w.node.until_peer(&liar.id.to_string(), "who sent it loses standing", |p| p["score"].as_f64() < Some(0.0))?;
    Ok(())
}

/// A frame in the name of another without a signature is not read, however good the message in it is.
fn unsigned(w: &World) -> Result<()> {
    let liar = w.member(Manner::Unsigned(w.a.id))?;
    let (m, before) = (w.message("in another's name")?, w.node.unsigned()?);
    liar.publish(&w.topic, &m)?;
    until_true("the node has dropped the frame", || Ok(w.node.unsigned()? > before))?;
    w.until_passed_on(&w.a, &w.b)?;
    want(w.node.status(&m)?.is_empty() && !w.b.hears(&m), || "a frame without a signature was read".into())
}

/// Frames as large as they may be.
fn large(w: &World) -> Result<()> {
    w.both_ways(&w.a, &"large over TCP ".repeat(LARGE / 15))?;
    w.both_ways(&w.b, &"large over QUIC".repeat(LARGE / 15))
}

fn burst(w: &World) -> Result<()> {
    let sent = (0..BURST).map(|i| w.message(&format!("one of many {i}"))).collect::<Result<Vec<_>>>()?;
    for m in &sent {
        w.a.publish(&w.topic, m)?;
    }
    for m in &sent {
        w.node.until_processed(m)?;
        until_true("the other peer hears each", || Ok(w.b.hears(m)))?;
    }
    Ok(())
}

/// Who is in no mesh is told names and asks for what it lacks, and is asked.
fn lurking(w: &World) -> Result<()> {
    let lurker = w.member(Manner::Lurking)?;
    until_true("a message comes without a mesh", || {
        let before = Instant::now();
        let m = w.message(&format!("for who lurks {before:?}"))?;
        w.a.publish(&w.topic, &m)?;
        while !lurker.hears(&m) {
            if before.elapsed() > TOLD_FOR {
                return Ok(false); // The node took the lurker into its mesh just then.
            }
            std::thread::sleep(POLL);
        }
        Ok(lurker.seen().meshed_at.is_none_or(|at| at < before))
    })?;
    // The leaf reaches the node through the lurker alone, which passes nothing on at once.
    let leaf = Peer::open(Manner::Usual, &[lurker.id])?;
    lurker.allow(leaf.id)?;
    let at = lurker.listen("/ip4/127.0.0.1/tcp/0".parse()?)?;
    leaf.dial(lurker.id, &at)?;
    let (name, topic) = (gossipsub::IdentTopic::new(&w.topic), w.topic.clone());
    leaf.tell(move |s| s.behaviour_mut().gossip.subscribe(&name))??;
    until_true("the lurker listens", || Ok(leaf.seen().listeners.contains(&(lurker.id, topic.clone()))))?;
    let before = Instant::now();
    let m = w.message("through who lurks")?;
    leaf.publish(&w.topic, &m)?;
    w.node.until_processed(&m)?;
    want(lurker.seen().meshed_at.is_none_or(|at| at < before), || "the node took in the lurker's mesh again".into())
}

/// A peer that went comes back, by the other transport, and gossips as before.
fn comes_back(w: &World) -> Result<()> {
    let (id, me) = (w.node.id, w.b.id.to_string());
    w.b.tell(move |s| s.disconnect_peer_id(id))?.map_err(|()| "the peer is not connected")?;
    until_true("the node knows that the peer is gone", || Ok(w.node.peer(&me)?.is_none()))?;
    w.b.dial(w.node.id, &w.node.tcp)?;
    w.node.until_listens(&me, &w.topic)?;
    until_true("the node listens", || Ok(w.b.seen().listeners.contains(&(w.node.id, w.topic.clone()))))?;
    w.both_ways(&w.b, "rust-libp2p that came back")
}

/// rust-libp2p 0.51 with gossip and nothing else, as nodes of the public network run it.
fn old(w: &World) -> Result<()> {
    let old = Old::open(w.rsa.clone())?;
    old.dial(&w.node)?;
    old.join(&w.node, &w.topic)?;
    w.both_ways(&old, "rust-libp2p 0.51")?;
    w.until_passed_on(&old, &w.a)?;
    w.until_passed_on(&w.a, &old)?;
    let known = w.node.peer(&old.id)?.unwrap_or_default();
    want(known["score"].as_f64() >= Some(0.0), || format!("the node holds something against it: {known}"))
}

/// The node tells where it is.
fn alive(w: &World) -> Result<()> {
    let topic = w.alive.as_ref().ok_or("ALEPH_ALIVE is not set")?;
    w.a.join(&w.node, topic)?;
    until_true("the node tells that it lives", || {
        Ok(w.a.seen().heard.iter().filter(|m| m.topic.as_str() == topic).any(|m| {
            let word: serde_json::Value = serde_json::from_slice(&m.data).unwrap_or_default();
            word["peer_type"] == "P2P" && word["address"].as_str().is_some_and(|a| a.ends_with(&w.node.id.to_string())) && m.source == Some(w.node.id)
        }))
    })
}

/// The node keeps a place for a peer that others cannot dial, and lets another through to it.
fn relay(w: &World) -> Result<()> {
    let hidden = Peer::open(Manner::Usual, &[w.node.id])?;
    let guest = Peer::open(Manner::Usual, &[w.node.id, hidden.id])?;
    hidden.allow(guest.id)?;
    let circuit: Multiaddr = w.node.tcp.clone().with(Protocol::P2p(w.node.id)).with(Protocol::P2pCircuit);
    let dialled = circuit.clone();
    hidden.tell(move |s| s.listen_on(dialled))??;
    let (time, bytes) = until("the relay keeps a place", || {
        let seen = hidden.seen();
        match (seen.reserved.get(&w.node.id), seen.closed.last()) {
            (None, Some(why)) => Err(format!("the relay keeps no place: {why}").into()),
            (limits, _) => Ok(limits.copied()),
        }
    })?;
    want(time.is_some() && bytes.is_some(), || format!("the relay says no limits: {time:?}, {bytes:?}"))?;
    let (conn, end) = guest.dial(hidden.id, &circuit.with(Protocol::P2p(hidden.id)))?;
    want(end.is_relayed(), || format!("connected to {end:?}"))?;
    until_true("a ping goes through the relay", || Ok(guest.seen().pinged.contains_key(&conn)))
}

/// Nothing that the honest peers did counts against them.
fn standing(w: &World) -> Result<()> {
    for peer in [&w.a, &w.b] {
        let known = w.node.peer(&peer.id.to_string())?.unwrap_or_default();
        want(known["score"].as_f64() >= Some(0.0), || format!("the node holds something against a peer: {known}"))?;
    }
    Ok(())
}

type Check = fn(&World) -> Result<()>;

/// The checks in their order: later ones need the connections of the first.
const CHECKS: &[(&str, Check)] = &[
    ("noise and yamux over TCP", tcp),
    ("QUIC", quic),
    ("another peer's name is not answered to, by TCP and by QUIC", another_name),
    ("identify both ways, by TCP and by QUIC", identify),
    ("ping both ways, by TCP and by QUIC", ping),
    ("kad: one peer finds another in the table of the node", table),
    ("gossipsub both ways, over TCP", gossip_tcp),
    ("gossipsub both ways, over QUIC", gossip_quic),
    ("gossipsub in the newest version", gossip_version),
    ("gossipsub through the node, from TCP to QUIC and back", passed_on),
    ("a message with a forged signature is not passed on", forged),
    ("a frame without a signature is not read", unsigned),
    ("gossipsub with large messages, both ways", large),
    ("gossipsub with a burst of messages, from peer to peer", burst),
    ("gossipsub by IHAVE and IWANT alone, both ways", lurking),
    ("a peer comes back by another transport", comes_back),
    ("rust-libp2p 0.51 with an RSA key and gossip alone, both ways", old),
    ("circuit relay v2: the node lets one peer through to another", relay),
    ("no honest peer lost standing", standing),
];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("the system has threads");
    let _entered = runtime.enter();
    let world = match World::open() {
        Ok(world) => world,
        Err(err) => {
            println!("FAIL  meet the node: {err}");
            return ExitCode::FAILURE;
        }
    };
    let mut checks = CHECKS.to_vec();
    if world.alive.is_some() {
        checks.push(("the node tells that it lives", alive));
    }
    let mut failed = 0;
    for (name, check) in &checks {
        match check(&world) {
            Ok(()) => println!("ok    {name}"),
            Err(err) => {
                failed += 1;
                println!("FAIL  {name}: {err}");
            }
        }
    }
    println!("{} passed, {failed} failed", checks.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

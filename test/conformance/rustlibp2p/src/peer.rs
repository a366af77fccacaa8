//! A peer of the node: a host of today's rust-libp2p, which runs by itself and notes what it sees.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{mpsc as reply, Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::allow_block_list::{self, AllowedPeers};
use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{gossipsub, identify, kad, noise, ping, relay, tcp, yamux, Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder};
use tokio::sync::mpsc;

use crate::node::{until, until_true, Message, Node};
use crate::{Gossiper, Result};

/// The table of peers of the node's network.
pub const KAD: StreamProtocol = StreamProtocol::new("/aleph/kad/1.0.0");

/// How often it is looked who is in the mesh.
const MESH_TICK: Duration = Duration::from_millis(20);
/// A peer does within this time what it is told.
const TELL_MAX: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub allowed: allow_block_list::Behaviour<AllowedPeers>,
    pub gossip: gossipsub::Behaviour,
    pub identify: identify::Behaviour,
    pub kad: kad::Behaviour<MemoryStore>,
    pub ping: ping::Behaviour,
    pub relay: relay::client::Behaviour,
}

/// How a peer gossips.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    /// As nodes of the public network do.
    Usual,
    /// It is in nobody's mesh, so that it gets and gives messages by IHAVE and IWANT alone.
    Lurking,
    /// Its frames bear the name of another and no signature.
    Unsigned(PeerId),
}

/// What a peer has seen.
#[derive(Default)]
pub struct Seen {
    pub listening: Vec<Multiaddr>,
    pub connected: HashMap<ConnectionId, ConnectedPoint>,
    pub failed: HashMap<ConnectionId, Arc<DialError>>,
    pub identified: HashMap<ConnectionId, identify::Info>,
    pub pinged: HashMap<ConnectionId, Duration>,
    pub heard: Vec<gossipsub::Message>,
    /// Who listens, with the topic.
    pub listeners: HashSet<(PeerId, String)>,
    /// When anybody was in its mesh.
    pub meshed_at: Option<Instant>,
    pub answers: HashMap<kad::QueryId, kad::QueryResult>,
    /// What relays that keep a place for it let through: seconds and bytes.
    pub reserved: HashMap<PeerId, (Option<Duration>, Option<u64>)>,
    /// Why it does not listen any more.
    pub closed: Vec<String>,
}

impl Seen {
    fn note(&mut self, event: SwarmEvent<BehaviourEvent>) {
        use BehaviourEvent::{Gossip, Identify, Kad, Ping, Relay};
        match event {
            SwarmEvent::NewListenAddr { address, .. } => self.listening.push(address),
            SwarmEvent::ListenerClosed { reason, .. } => self.closed.push(format!("{reason:?}")),
            SwarmEvent::ListenerError { error, .. } => self.closed.push(format!("{error:?}")),
            SwarmEvent::ConnectionEstablished { connection_id, endpoint, .. } => {
                self.connected.insert(connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, peer_id, num_established, .. } => {
                self.connected.remove(&connection_id);
                if num_established == 0 {
                    self.listeners.retain(|(id, _)| *id != peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.failed.insert(connection_id, Arc::new(error));
            }
            SwarmEvent::Behaviour(Identify(identify::Event::Received { connection_id, info, .. })) => {
                self.identified.insert(connection_id, info);
            }
            SwarmEvent::Behaviour(Ping(ping::Event { connection, result: Ok(took), .. })) => {
                self.pinged.insert(connection, took);
            }
            SwarmEvent::Behaviour(Gossip(gossipsub::Event::Message { message, .. })) => self.heard.push(message),
            SwarmEvent::Behaviour(Gossip(gossipsub::Event::Subscribed { peer_id, topic })) => {
                self.listeners.insert((peer_id, topic.into_string()));
            }
            SwarmEvent::Behaviour(Gossip(gossipsub::Event::Unsubscribed { peer_id, topic })) => {
                self.listeners.remove(&(peer_id, topic.into_string()));
            }
            SwarmEvent::Behaviour(Kad(kad::Event::OutboundQueryProgressed { id, result, step, .. })) if step.last => {
                self.answers.insert(id, result);
            }
            SwarmEvent::Behaviour(Relay(relay::client::Event::ReservationReqAccepted { relay_peer_id, limit, .. })) => {
                let limit = limit.map(|l| (l.duration(), l.data_in_bytes())).unwrap_or_default();
                self.reserved.insert(relay_peer_id, limit);
            }
            _ => {}
        }
    }
}

type Command = Box<dyn FnOnce(&mut Swarm<Behaviour>) + Send>;

/// A peer, which ends when it is dropped.
pub struct Peer {
    pub id: PeerId,
    commands: mpsc::UnboundedSender<Command>,
    seen: Arc<Mutex<Seen>>,
}

impl Peer {
    /// Opens a peer that speaks only with those whom it is told of. The runtime is entered.
    pub fn open(manner: Manner, friends: &[PeerId]) -> Result<Peer> {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let gossip = gossip(&key, manner)?;
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
            .with_quic()
            .with_relay_client(noise::Config::new, yamux::Config::default)?
            .with_behaviour(|key, relay| Behaviour {
                allowed: Default::default(),
                gossip,
                identify: identify::Behaviour::new(identify::Config::new("aleph/rustlibp2p".into(), key.public())),
                kad: kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(KAD)),
                ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(1))),
                relay,
            })?
            .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(300)))
            .build();
        for friend in friends {
            swarm.behaviour_mut().allowed.allow_peer(*friend);
        }
        let (commands, todo) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(run(swarm, todo, seen.clone()));
        Ok(Peer { id, commands, seen })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("noting does not panic")
    }

    /// Has the swarm do something and returns what came of it.
    pub fn tell<T: Send + 'static>(&self, what: impl FnOnce(&mut Swarm<Behaviour>) -> T + Send + 'static) -> Result<T> {
        let (done, got) = reply::channel();
        self.commands.send(Box::new(move |swarm: &mut Swarm<Behaviour>| done.send(what(swarm)).unwrap_or_default())).map_err(|_| "the peer has ended")?;
        Ok(got.recv_timeout(TELL_MAX)?)
    }

    pub fn allow(&self, friend: PeerId) -> Result<bool> {
        self.tell(move |s| s.behaviour_mut().allowed.allow_peer(friend))
    }

    /// Listens, and returns the address with the peer's name.
    pub fn listen(&self, addr: Multiaddr) -> Result<Multiaddr> {
        let before = self.seen().listening.len();
        self.tell(move |s| s.listen_on(addr))??;
        until("the peer listens", || {
            let seen = self.seen();
            match (seen.listening.get(before), seen.closed.last()) {
                (None, Some(why)) => Err(format!("the peer does not listen: {why}").into()),
                (addr, _) => Ok(addr.cloned()),
            }
        })
    }

    /// Dials and returns the connection with its other end, or why there is none.
    pub fn try_dial(&self, id: PeerId, addr: &Multiaddr) -> Result<std::result::Result<(ConnectionId, ConnectedPoint), Arc<DialError>>> {
        let dial = DialOpts::peer_id(id).addresses(vec![addr.clone()]).condition(PeerCondition::Always).build();
        let conn = dial.connection_id();
        if let Err(err) = self.tell(move |s| s.dial(dial))? {
            return Ok(Err(Arc::new(err)));
        }
        until("a dial ends", || {
            let seen = self.seen();
            Ok(match (seen.connected.get(&conn), seen.failed.get(&conn)) {
                (Some(end), _) => Some(Ok((conn, end.clone()))),
                (None, Some(why)) => Some(Err(why.clone())),
                (None, None) => None,
            })
        })
    }

    pub fn dial(&self, id: PeerId, addr: &Multiaddr) -> Result<(ConnectionId, ConnectedPoint)> {
        self.try_dial(id, addr)?.map_err(|err| format!("dial {addr}: {err}").into())
    }

    /// Asks the table and waits for the answer.
    pub fn ask(&self, question: impl FnOnce(&mut kad::Behaviour<MemoryStore>) -> Result<kad::QueryId> + Send + 'static) -> Result<kad::QueryResult> {
        let id = self.tell(move |s| question(&mut s.behaviour_mut().kad).map_err(|err| err.to_string()))??;
        until("the table answers", || Ok(self.seen().answers.remove(&id)))
    }

    /// Subscribes and waits until the node and the peer know of each other that they listen.
    pub fn join(&self, node: &Node, topic: &str) -> Result<()> {
        let name = gossipsub::IdentTopic::new(topic);
        self.tell(move |s| s.behaviour_mut().gossip.subscribe(&name))??;
        until_true("the node listens", || Ok(self.seen().listeners.contains(&(node.id, topic.to_owned()))))?;
        node.until_listens(&self.id.to_string(), topic)
    }
}

impl Gossiper for Peer {
    fn publish(&self, topic: &str, m: &Message) -> Result<()> {
        let (topic, data) = (gossipsub::IdentTopic::new(topic), m.payload());
        self.tell(move |s| s.behaviour_mut().gossip.publish(topic, data))?.map_err(|err| format!("publish: {err}"))?;
        Ok(())
    }

    fn hears(&self, m: &Message) -> bool {
        self.seen().heard.iter().any(|got| m.is(&got.data))
    }
}

/// Runs a swarm until nobody can tell it anything any more.
async fn run(mut swarm: Swarm<Behaviour>, mut todo: mpsc::UnboundedReceiver<Command>, seen: Arc<Mutex<Seen>>) {
    let mut tick = tokio::time::interval(MESH_TICK);
    loop {
        tokio::select! {
            event = swarm.select_next_some() => seen.lock().expect("noting does not panic").note(event),
            command = todo.recv() => match command {
                Some(command) => command(&mut swarm),
                None => return,
            },
            now = tick.tick() => if swarm.behaviour().gossip.all_mesh_peers().next().is_some() {
                seen.lock().expect("noting does not panic").meshed_at = Some(now.into_std());
            },
        }
    }
}

/// Gossip with the parameters of the public network.
fn gossip(key: &Keypair, manner: Manner) -> Result<gossipsub::Behaviour> {
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .heartbeat_interval(Duration::from_secs(1))
        .validation_mode(gossipsub::ValidationMode::Strict)
        .message_id_fn(|m: &gossipsub::Message| gossipsub::MessageId::from(name(&m.data)))
        .max_transmit_size(1 << 18)
        .max_publish_messages(100)
        .duplicate_cache_time(Duration::from_secs(1800));
    let mut author = gossipsub::MessageAuthenticity::Signed(key.clone());
    match manner {
        Manner::Usual => {}
        Manner::Lurking => {
            config.heartbeat_initial_delay(Duration::ZERO).mesh_outbound_min(0).mesh_n_low(0).mesh_n(0).mesh_n_high(0);
        }
        Manner::Unsigned(other) => {
            config.validation_mode(gossipsub::ValidationMode::None);
            author = gossipsub::MessageAuthenticity::Author(other);
        }
    }
    Ok(gossipsub::Behaviour::new(author, config.build()?)?)
}

/// The name of a payload on the public network.
pub fn name(data: &Vec<u8>) -> String {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish().to_string()
}

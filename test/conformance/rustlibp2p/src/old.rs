//! A peer as nodes of the public network have been for years: rust-libp2p 0.51 with an RSA key, which
//! gossips and does nothing else. It does not identify itself, answers no ping and has no table.

use std::collections::HashSet;
use std::sync::{mpsc as reply, Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use libp2p_051::core::upgrade::Version;
use libp2p_051::identity::Keypair;
use libp2p_051::swarm::dial_opts::DialOpts;
use libp2p_051::swarm::{SwarmBuilder, SwarmEvent};
use libp2p_051::{gossipsub, noise, tcp, yamux, Multiaddr, PeerId, Swarm, Transport};
use tokio::sync::mpsc;

use crate::node::{until_true, Message, Node};
use crate::peer::name;
use crate::{Gossiper, Result};

/// The peer does within this time what it is told.
const TELL_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Seen {
    connected: bool,
    failed: Option<String>,
    heard: Vec<Vec<u8>>,
    /// Topics to which the node listens.
    topics: HashSet<String>,
}

type Command = Box<dyn FnOnce(&mut Swarm<gossipsub::Behaviour>) + Send>;

/// A peer, which ends when it is dropped.
pub struct Old {
    pub id: String,
    commands: mpsc::UnboundedSender<Command>,
    seen: Arc<Mutex<Seen>>,
}

impl Old {
    /// Opens a peer with a key of PKCS #8 in DER. The runtime is entered.
    pub fn open(mut der: Vec<u8>) -> Result<Old> {
        let key = Keypair::rsa_from_pkcs8(&mut der)?;
        let id = key.public().to_peer_id();
        let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key)?)
            .multiplex(yamux::Config::default())
            .boxed();
        let config = gossipsub::ConfigBuilder::default()
            .heartbeat_interval(Duration::from_secs(1))
            .validation_mode(gossipsub::ValidationMode::Strict)
            .message_id_fn(|m: &gossipsub::Message| gossipsub::MessageId::from(name(&m.data)))
            .max_transmit_size(1 << 18)
            .max_messages_per_rpc(Some(100))
            .duplicate_cache_time(Duration::from_secs(1800))
            .build()?;
        let gossip = gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(key), config)?;
        let (commands, todo) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(run(SwarmBuilder::with_tokio_executor(transport, gossip, id).build(), todo, seen.clone()));
        Ok(Old { id: id.to_string(), commands, seen })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("noting does not panic")
    }

    fn tell<T: Send + 'static>(&self, what: impl FnOnce(&mut Swarm<gossipsub::Behaviour>) -> T + Send + 'static) -> Result<T> {
        let (done, got) = reply::channel();
        self.commands.send(Box::new(move |swarm: &mut Swarm<gossipsub::Behaviour>| done.send(what(swarm)).unwrap_or_default())).map_err(|_| "the peer has ended")?;
        Ok(got.recv_timeout(TELL_MAX)?)
    }

    /// Dials the node by TCP.
    pub fn dial(&self, node: &Node) -> Result<()> {
        let (id, addr): (PeerId, Multiaddr) = (node.id.to_string().parse()?, node.tcp.to_string().parse()?);
        self.tell(move |s| s.dial(DialOpts::peer_id(id).addresses(vec![addr]).build()))??;
        until_true("the dial ends", || {
            let seen = self.seen();
            match &seen.failed {
                Some(why) => Err(why.clone().into()),
                None => Ok(seen.connected),
            }
        })
    }

    /// Subscribes and waits until the node and the peer know of each other that they listen.
    pub fn join(&self, node: &Node, topic: &str) -> Result<()> {
        let name = gossipsub::IdentTopic::new(topic);
        self.tell(move |s| s.behaviour_mut().subscribe(&name))??;
        until_true("the node listens", || Ok(self.seen().topics.contains(topic)))?;
        node.until_listens(&self.id, topic)
    }
}

impl Gossiper for Old {
    fn publish(&self, topic: &str, m: &Message) -> Result<()> {
        let (topic, data) = (gossipsub::IdentTopic::new(topic), m.payload());
        self.tell(move |s| s.behaviour_mut().publish(topic, data))?.map_err(|err| format!("publish: {err}"))?;
        Ok(())
    }

    fn hears(&self, m: &Message) -> bool {
        self.seen().heard.iter().any(|got| m.is(got))
    }
}

/// Runs a swarm until nobody can tell it anything any more.
async fn run(mut swarm: Swarm<gossipsub::Behaviour>, mut todo: mpsc::UnboundedReceiver<Command>, seen: Arc<Mutex<Seen>>) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                let mut seen = seen.lock().expect("noting does not panic");
                match event {
                    SwarmEvent::ConnectionEstablished { .. } => seen.connected = true,
                    SwarmEvent::OutgoingConnectionError { error, .. } => seen.failed = Some(error.to_string()),
                    SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => seen.heard.push(message.data),
                    SwarmEvent::Behaviour(gossipsub::Event::Subscribed { topic, .. }) => {
                        seen.topics.insert(topic.into_string());
                    }
                    _ => {}
                }
            },
            command = todo.recv() => match command {
                Some(command) => command(&mut swarm),
                None => return,
            },
        }
    }
}

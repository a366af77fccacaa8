package p2p

import (
	"fmt"
	"strings"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// The values of Config.Profile.
const (
	ProfilePrivate = "private"
	ProfileAleph   = "aleph"
)

const (
	// alephRPCMax is the size of one gossip frame of the public network, with all
	// that is around a payload.
	alephRPCMax = 1 << 18
	// alephMessagesMax is how many messages of one frame its nodes read; they drop
	// the rest.
	alephMessagesMax = 100
	// topicMax bounds the name of a topic, in bytes.
	topicMax = 128
)

// profile is how a network's gossip goes.
type profile struct {
	messages string // topic
	alive    string // topic; "" = nobody tells
	// quoted says that receivers decode %XX in messages before they read them.
	quoted bool
	// rpcMax bounds a frame and dataMax a payload, in bytes.
	rpcMax, dataMax int
	// rpcMessagesMax bounds the messages of one frame; 0 = none.
	rpcMessagesMax int
	// mesh is how many peers a host exchanges messages with at once, and how.
	mesh pubsub.GossipSubParams
	// flood has a host send its own messages to every listener that is connected, and not
	// to its mesh alone.
	flood     bool
	bootstrap []string
}

// privateMesh is thinner than GossipSub's usual one of six to twelve peers: in a network
// of a hundred hosts less than half as many copies come, and the last host hears in a
// quarter of a second still (bench/mesh.md, decision 23).
func privateMesh() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dscore = 3, 2, 5, 2
	p.Dout = 0 // The library wants less than half of D.
	// To tell two or three peers that a message is here already costs more than the half
	// of a copy that it saves, unless that is large.
	p.IDontWantMessageThreshold = 4096
	return p
}

// profile returns the network's parameters.
func (c Config) profile() (profile, error) {
	var p profile
	switch c.Profile {
	case ProfilePrivate:
		p = profile{messages: wire.TopicMessages, rpcMax: wire.MaxGossip + gossipOverhead, dataMax: wire.MaxGossip, mesh: privateMesh()}
	case ProfileAleph:
		p = profile{
			messages: wire.TopicAlephMessages, alive: wire.TopicAlephAlive, quoted: true,
			rpcMax: alephRPCMax, dataMax: alephRPCMax - gossipOverhead, rpcMessagesMax: alephMessagesMax,
			mesh: pubsub.DefaultGossipSubParams(), flood: true,
			bootstrap: []string{
				"/dns/api2.aleph.im/tcp/4025/p2p/QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV",
				"/dns/api3.aleph.im/tcp/4025/p2p/Qmb5b2ZwJm9pVWrppf3D3iMF1bXbjZhbJTwGvKEBMZNxa2",
			},
		}
	default:
		return p, fmt.Errorf("profile is %q, want %s or %s", c.Profile, ProfilePrivate, ProfileAleph)
	}
	for _, t := range []struct {
		setting, value string
		topic          *string
	}{{"messages_topic", c.MessagesTopic, &p.messages}, {"alive_topic", c.AliveTopic, &p.alive}} {
		if t.value == "" {
			continue
		}
		if len(t.value) > topicMax || strings.ContainsFunc(t.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return p, fmt.Errorf("%s %.80q is not a name of 1 to %d letters, digits and signs", t.setting, t.value, topicMax)
		}
		*t.topic = t.value
		// A network of one's own has none of the public one's peers.
		p.bootstrap = nil
	}
	if p.messages == p.alive || p.messages == wire.TopicCapacity || p.alive == wire.TopicCapacity {
		return p, fmt.Errorf("messages_topic %q and alive_topic %q must differ, also from %s", p.messages, p.alive, wire.TopicCapacity)
	}
	return p, nil
}

// topic returns the network's name for a topic of ours.
func (p profile) topic(name string) string {
	switch name {
	case wire.TopicMessages:
		return p.messages
	case topicAlive:
		return p.alive
	default:
		return name
	}
}

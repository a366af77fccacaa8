package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

// What delivery aims at.
const (
	deliveryAimMS = 400
	copiesAim     = 2.5
)

const profilePrivate = "private"

// usualConnections is how many a host keeps at most, if nobody says else.
const usualConnections = 192

// simulated is what the test measured; it is described there.
type simulated struct {
	Hosts, Messages, Lost int
	MS                    []float64 // At p50, p90, p99 and the last.
	Copies, Bytes, CPUUS  float64
	Connections, Mesh     float64
	HostBytes             float64
}

// network is what is simulated.
type network struct {
	hosts, messages int
	profile         string
	connections     int  // That a host keeps at most.
	frugal          bool // Hosts look for few peers.
}

// simulate measures a network. The test needs a bubble of virtual time, which only tests
// have.
func (b *bench) simulate(ctx context.Context, n network) (out simulated, err error) {
	b.say("simulating %d hosts of the profile %s, %d messages", n.hosts, n.profile, n.messages)
	f, err := os.CreateTemp(b.dir, "simulated-*.json")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := f.Close(); err != nil {
		return out, err
	}
	test := exec.CommandContext(ctx, "go", "test", "./internal/p2p", "-count=1", "-timeout=1h", "-run=^TestGossipReachesAllSoonAndNotTooOften$", "-args",
		"-mesh.hosts="+strconv.Itoa(n.hosts), "-mesh.messages="+strconv.Itoa(n.messages), "-mesh.profile="+n.profile,
		"-mesh.connections="+strconv.Itoa(n.connections), "-mesh.frugal="+strconv.FormatBool(n.frugal), "-mesh.out="+f.Name())
	if n.frugal {
		// Go collects less while there is memory, and more before it is short.
		test.Env = append(os.Environ(), "GOGC=150", "GOMEMLIMIT=11GiB")
	}
	if said, err := test.CombinedOutput(); err != nil {
		return out, fmt.Errorf("simulate %d hosts: %w\n%s", n.hosts, err, said)
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}

const simulation = "Real hosts on virtual time, joined by simulated packets with 50 ms from one host to another and back and 200 Mbit/s for each host: " +
	"on two processors a hundred hosts in real time would measure the processors. Each host meets three others and finds the rest itself; " +
	"the checks of a message take 0.2 ms. Messages of 1,000 bytes are published by random hosts, 20 a second. " +
	"Copies are all that come, for each that is the first. Processor time is real, all hosts' and the simulation's, for each first."

func (b *bench) measureDelivery(ctx context.Context) error {
	for _, profile := range []string{profilePrivate, "aleph"} {
		got, err := b.simulate(ctx, network{hosts: b.hosts, messages: b.published, profile: profile, connections: usualConnections})
		if err != nil {
			return err
		}
		group := fmt.Sprintf("Delivery to %d hosts, profile %s", got.Hosts, profile)
		b.report.Note(group, simulation)
		for i, name := range []string{"p50", "p90", "p99", "the last"} {
			r := b.report.Add(group, "from publishing to a host, "+name, "ms", got.MS[i])
			r.N = got.Messages * (got.Hosts - 1)
			if name == "p99" {
				r.CPUUS = got.CPUUS
				r.Aim = ours(profile, deliveryAimMS)
			}
		}
		b.report.Add(group, "messages that did not come, for a host each", "", float64(got.Lost))
		b.report.Add(group, "copies received", "", got.Copies).Aim = ours(profile, copiesAim)
		b.report.Add(group, "bytes of payloads received for each first", "B", got.Bytes)
		b.report.Add(group, "connections of a host", "", got.Connections)
		b.report.Add(group, "peers of a host in the mesh", "", got.Mesh)
	}
	return nil
}

// ours is an aim of the networks whose parameters are ours.
func ours(profile string, aim float64) float64 {
	if profile != profilePrivate {
		return 0
	}
	return aim
}

const (
	// growthPairs bounds the work of a network: pairs of a message and a host.
	growthPairs = 20_000
	// growthLeast and growthMost bound the messages.
	growthLeast, growthMost = 20, 500
	// growthConnections bounds the connections of a host, of which each takes some 0.1 MB at
	// either end. In earnest it is 192, which no machine of ours has the memory for.
	growthConnections = 32
)

func (b *bench) measureGrowth(ctx context.Context) error {
	const group = "Growth of the network"
	b.report.Note(group, fmt.Sprintf("The same with more and more hosts, and as many messages as give about %s pairs of one and a host. "+
		"So that many hosts fit into one machine, each closes connections from %d on when they are ten seconds old, of which the mesh needs five, and its routing table has eight peers of a distance and looks for none: "+
		"hosts find others by what gossip tells of peers. In earnest a host closes connections from 192 on, its table has twenty, and it looks for them at the start: while they came, each of 250 such hosts had 135 connections. "+
		"A delivery's processor time has the hosts' upkeep of that time in it.",
		measure.Thousands(growthPairs), growthConnections))
	lines := []measure.Series{{Name: "p99 of delivery, ms"}, {Name: "copies received"}, {Name: "CPU per delivery, us"}, {Name: "memory of a host, MB"}}
	for _, n := range b.growth {
		got, err := b.simulate(ctx, network{
			hosts: n, messages: min(max(growthLeast, growthPairs/n), growthMost), profile: profilePrivate, connections: growthConnections, frugal: true,
		})
		if err != nil {
			return err
		}
		name := measure.Thousands(n) + " hosts: "
		p99 := b.report.Add(group, name+"from publishing to a host, p99", "ms", got.MS[2])
		p99.N, p99.CPUUS = got.Messages*(got.Hosts-1), got.CPUUS
		b.report.Add(group, name+"copies received", "", got.Copies)
		b.report.Add(group, name+"messages that did not come, for a host each", "", float64(got.Lost))
		b.report.Add(group, name+"memory of a host with "+strconv.Itoa(int(got.Connections))+" connections", "MB", got.HostBytes/1e6)
		for i, y := range []float64{got.MS[2], got.Copies, got.CPUUS, got.HostBytes / 1e6} {
			lines[i].X, lines[i].Y = append(lines[i].X, float64(n)), append(lines[i].Y, y)
		}
	}
	b.report.Plot(measure.Plot{
		Name: "growth", Title: "Cost by the number of hosts", Text: "How delivery, and what it costs, grow with the network:", Series: lines,
		Aim: deliveryAimMS, AimText: fmt.Sprintf("%d ms", deliveryAimMS),
	})
	return nil
}

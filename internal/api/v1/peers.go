package v1

import (
	"context"
	"net"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// PeerView is a peer with an open connection.
type PeerView struct {
	ID        string   `json:"id"`
	Node      uint32   `json:"node" doc:"Number in the registry; 0 for none."`
	Addrs     []string `json:"addrs" doc:"Multiaddresses of its connections."`
	Agent     string   `json:"agent" doc:"What it says of its software."`
	Direction string   `json:"direction" enum:"in,out" doc:"Who opened the oldest connection."`
	Transport string   `json:"transport" enum:"tcp,quic,relay,other,"`
	LatencyMS float64  `json:"latency_ms" doc:"Round trip in milliseconds; 0 if not known."`
	Score     float64  `json:"score" doc:"Standing in gossip; below -100 it is not heard."`
	Topics    []string `json:"topics" doc:"Gossip topics that it listens to."`
	BytesIn   int64    `json:"bytes_in"`
	BytesOut  int64    `json:"bytes_out"`
	Since     int64    `json:"since" doc:"Unix seconds when the oldest connection was opened."`
}

// PeersView is the answer to who is connected.
type PeersView struct {
	Peers []PeerView `json:"peers"`
}

type peersOutput struct{ Body PeersView }

// localInput notes whether the request is from this machine.
type localInput struct{ isLocal bool }

// Resolve implements huma.Resolver. A proxy on this machine speaks for others, and says
// so.
func (i *localInput) Resolve(ctx huma.Context) []error {
	host, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		return nil
	}
	addr, err := netip.ParseAddr(host)
	i.isLocal = err == nil && addr.Unmap().IsLoopback() && ctx.Header("Forwarded") == "" && ctx.Header("X-Forwarded-For") == ""
	return nil
}

// peers tells only who runs the node: addresses of others are not the world's business.
func (s *Server) peers(_ context.Context, in *localInput) (*peersOutput, error) {
	if !in.isLocal {
		return nil, errs.New(errs.Denied, "only programs on the node's own machine may ask who is connected")
	}
	out := &peersOutput{PeersView{Peers: []PeerView{}}}
	for _, c := range s.parts.Connections.Peers() {
		topics := c.Topics
		if topics == nil {
			topics = []string{}
		}
		out.Body.Peers = append(out.Body.Peers, PeerView{
			ID: string(c.ID), Node: c.Node, Addrs: c.Addrs, Agent: c.Agent, Direction: c.Direction, Transport: c.Transport,
			LatencyMS: float64(c.Latency.Microseconds()) / 1000, Score: c.Score, Topics: topics, //nolint:mnd // microseconds of a millisecond
			BytesIn: c.BytesIn, BytesOut: c.BytesOut, Since: c.Since.Unix(),
		})
	}
	return out, nil
}

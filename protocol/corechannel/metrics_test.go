package corechannel_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// metricsPosts are posts of the scoring service.
func metricsPosts(tb testing.TB) []corechannel.Message {
	tb.Helper()
	var posts []struct {
		ItemHash message.ItemHash `json:"item_hash"`
		Sender   string
		Channel  string
		Content  json.RawMessage
	}
	if err := json.Unmarshal(readVector(tb, "corechannel_metrics.json"), &posts); err != nil {
		tb.Fatal(err)
	}
	out := make([]corechannel.Message, len(posts))
	for i, p := range posts {
		content, err := message.ParsePost(p.Content)
		if err != nil {
			tb.Fatal(err)
		}
		out[i] = corechannel.Message{Hash: p.ItemHash, Sender: p.Sender, Channel: p.Channel, Post: content}
	}
	return out
}

func TestMetricsOfTheReference(t *testing.T) {
	m := metricsPosts(t)[0]
	got, err := corechannel.ReadMetrics(m, corechannel.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != 2 || len(got.ResourceNodes) != 2 || got.Dropped != 0 {
		t.Fatalf("%d, %d rows and %d dropped; want 2, 2, 0", len(got.Nodes), len(got.ResourceNodes), got.Dropped)
	}
	raw, err := json.Marshal([]any{got.Nodes[0], got.ResourceNodes[1]})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"node_id":"b8b9104da69c54e58531212234fa31f49ef4c668a39a0bf6793322407857b821",` +
		`"item_hash":"56c82c6d3b28b76456594b4b57154b6826a6d5fb97d355d0428e5ca7d08193b9","measured_at":1701261022.881753,` +
		`"base_latency":0.2345137596130371,"base_latency_ipv4":0.2345137596130371,"metrics_latency":0.39575982093811035,` +
		`"aggregate_latency":0.12717533111572266,"file_download_latency":0.22372746467590332,"pending_messages":0,"eth_height_remaining":224},` +
		`{"node_id":"d491f38ec66fe23a9c9ad398a04fd4dcb44a115b948ef612db844caea85cd59a",` +
		`"item_hash":"56c82c6d3b28b76456594b4b57154b6826a6d5fb97d355d0428e5ca7d08193b9","measured_at":1701261122.643961,` +
		`"base_latency":0.03546738624572754,"base_latency_ipv4":0.05208730697631836,"full_check_latency":0.6230778694152832,` +
		`"diagnostic_vm_latency":0.05135464668273926}]`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for i, m := range metricsPosts(t) {
		if got, err := corechannel.ReadMetrics(m, corechannel.DefaultSettings()); err != nil || got.Dropped != 0 || len(got.Nodes) == 0 {
			t.Errorf("post %d: %+v, %v", i, got, err)
		}
	}
}

func TestMetricsThatAreNotUnderstood(t *testing.T) {
	read := func(channel, owner, kind, content string) (corechannel.Metrics, error) {
		p := &message.Post{Address: owner, Type: kind, Content: json.RawMessage(content)}
		return corechannel.ReadMetrics(corechannel.Message{Hash: "h", Channel: channel, Post: p}, corechannel.DefaultSettings())
	}
	refused := [][4]string{
		{"aleph-scoring", scorer, "blog", `{"metrics":{"ccn":[]}}`},
		{"FOUNDATION", scorer, corechannel.MetricsType, `{"metrics":{"ccn":[]}}`},
		{"aleph-scoring", alice, corechannel.MetricsType, `{"metrics":{"ccn":[]}}`},
		{"aleph-scoring", scorer, corechannel.MetricsType, `{"metrics":[]}`},
		{"aleph-scoring", scorer, corechannel.MetricsType, `{"metrics":{"ccn":{}}}`},
		{"aleph-scoring", scorer, corechannel.MetricsType, `[]`},
	}
	for _, tt := range refused {
		if got, err := read(tt[0], tt[1], tt[2], tt[3]); err == nil {
			t.Errorf("%v reads as %+v", tt, got)
		}
	}
	rows := map[string]bool{ // and whether it is kept
		`{"node_id":"a","measured_at":1}`:                           true,
		`{"node_id":"a","measured_at":1,"base_latency":null}`:       true,
		`{"node_id":"a","measured_at":1,"pending_messages":3.0}`:    true,
		`{"node_id":"a","measured_at":1,"eth_height_remaining":-2}`: true,
		`{"node_id":"a","measured_at":1,"pending_messages":3.5}`:    false,
		`{"node_id":"a","measured_at":1,"pending_messages":1e300}`:  false,
		`{"node_id":"a","measured_at":1,"base_latency":"fast"}`:     false,
		`{"node_id":"a","measured_at":-1}`:                          false,
		`{"node_id":"a","measured_at":1e20}`:                        false,
		`{"node_id":"a"}`:                                           false,
		`{"node_id":"","measured_at":1}`:                            false,
		`{"measured_at":1}`:                                         false,
		`[]`:                                                        false,
		`null`:                                                      false,
	}
	for row, kept := range rows {
		got, err := read("aleph-scoring", scorer, corechannel.MetricsType, `{"metrics":{"ccn":[`+row+`],"crn":[]}}`)
		if err != nil || (len(got.Nodes) == 1) != kept || (got.Dropped == 0) != kept {
			t.Errorf("%s: %+v, %v; kept %v is wanted", row, got, err, kept)
		}
	}
}

// FuzzReadMetrics: no post with metrics stops a node.
func FuzzReadMetrics(f *testing.F) {
	f.Add([]byte(`{"metrics":{"ccn":[{"node_id":"a","measured_at":1.5,"base_latency":null,"pending_messages":3}],"crn":[{"node_id":"b","measured_at":2}]}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		m := corechannel.Message{Hash: "h", Channel: "aleph-scoring", Post: &message.Post{Address: scorer, Type: corechannel.MetricsType, Content: content}}
		got, err := corechannel.ReadMetrics(m, corechannel.DefaultSettings())
		if err != nil {
			reason(t, err)
		}
		for _, row := range got.Nodes {
			if row.NodeID == "" || row.ItemHash != "h" || row.MeasuredAt < 0 {
				t.Errorf("row %+v", row)
			}
		}
	})
}

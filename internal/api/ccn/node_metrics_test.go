package ccn_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestMetricsOfNodes(t *testing.T) {
	n := open(t)
	first := n.sendPost(key(t, "scores"), "aleph-network-metrics", fields{"n": 1}, nil)
	second := n.sendPost(key(t, "scores"), "aleph-network-metrics", fields{"n": 2}, nil)
	now := time.Now()
	put := func(kind, node string, post message.ItemHash, at time.Time, doc string) {
		t.Helper()
		m, err := n.db.Message(t.Context(), post)
		if err != nil {
			t.Fatal(err)
		}
		err = n.db.Update(t.Context(), func(tx *state.Tx) error {
			return tx.PutNodeMetrics(t.Context(), []state.NodeMetrics{{Kind: kind, Node: node, At: at, Message: m.ID, Doc: []byte(doc)}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("ccn", "x", first, time.Unix(1000, 0), `{"measured_at":1000,"base_latency":0.5,"pending_messages":3}`)
	put("ccn", "x", second, time.Unix(2000, 0), `{"measured_at":2000.25,"base_latency":null,"eth_height_remaining":-1}`)
	put("ccn", "y", first, now.Add(-13*24*time.Hour), `{"measured_at":5}`)
	put("crn", "y", first, now.Add(-15*24*time.Hour), `{"measured_at":6,"full_check_latency":1.5}`)
	row := func(order []message.ItemHash, at, base, pending, height string) string {
		return fmt.Sprintf(`{"metrics":{"item_hash":["%s","%s"],"measured_at":%s,"base_latency":%s,"base_latency_ipv4":[null,null],"metrics_latency":[null,null],`+
			`"aggregate_latency":[null,null],"file_download_latency":[null,null],"pending_messages":%s,"eth_height_remaining":%s}}`, order[0], order[1], at, base, pending, height)
	}
	up := row([]message.ItemHash{first, second}, "[1000,2000.25]", "[0.5,null]", "[3,null]", "[null,-1]")
	same(t, "oldest first", n.ok("/api/v0/core/x/metrics?start_date=1000&end_date=2000").body, up)
	same(t, "ascending", n.ok("/api/v0/core/x/metrics?start_date=999.5&end_date=2000.1&sort=ASC").body, up)
	same(t, "newest first", n.ok("/api/v0/core/x/metrics?start_date=1&sort=DESC").body,
		row([]message.ItemHash{second, first}, "[2000.25,1000]", "[null,0.5]", "[null,3]", "[-1,null]"))
	same(t, "of one", n.ok("/api/v0/core/x/metrics?start_date=1001&end_date=3000").field("metrics.measured_at"), any([]any{json.Number("2000.25")}))
	same(t, "two weeks up to a time", n.ok("/api/v0/core/x/metrics?end_date=1500").field("metrics.measured_at"), any([]any{json.Number("1000")}))
	same(t, "last two weeks", n.ok("/api/v0/core/y/metrics").field("metrics.measured_at"), any([]any{json.Number("5")}))
	same(t, "of a compute node", n.ok("/api/v0/compute/y/metrics?start_date=1").body, fmt.Sprintf(
		`{"metrics":{"item_hash":["%s"],"measured_at":[6],"base_latency":[null],"base_latency_ipv4":[null],"full_check_latency":[1.5],"diagnostic_vm_latency":[null]}}`, first))
	for target, want := range map[string]int{
		"core/x/metrics": 404, "core/z/metrics?start_date=1": 404, "compute/x/metrics?start_date=1": 404, "compute/y/metrics": 404,
		"core/x/metrics?sort=up": 422, "core/x/metrics?start_date=x": 422, "core/x/metrics?start_date=5&end_date=4": 422,
	} {
		same(t, target, n.get("/api/v0/"+target).status, want)
	}
	n.send(key(t, "scores"), message.TypeForget, fields{"hashes": []message.ItemHash{second}})
	same(t, "a post was forgotten", n.ok("/api/v0/core/x/metrics?start_date=1").field("metrics.measured_at"), any([]any{json.Number("1000")}))
}

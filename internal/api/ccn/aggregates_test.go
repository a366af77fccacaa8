package ccn_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestAggregatesOfAnAddress(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	set := func(key string, content fields) message.ItemHash {
		return n.send(k, message.TypeAggregate, fields{"key": key, "content": content})
	}
	set("profile", fields{"name": "A", "age": 3})
	set("links", fields{"home": "x"})
	last := set("profile", fields{"age": 4})
	path := "/api/v0/aggregates/" + addressOf(k) + ".json"

	for query, want := range map[string]string{
		"":                               `{"address":%q,"data":{"profile":{"age":4,"name":"A"},"links":{"home":"x"}},"info":{}}`,
		"?limit=1":                       `{"address":%q,"data":{"profile":{"age":4,"name":"A"},"links":{"home":"x"}},"info":{}}`,
		"?keys=links":                    `{"address":%q,"data":{"links":{"home":"x"}},"info":{}}`,
		"?keys=links,absent":             `{"address":%q,"data":{"links":{"home":"x"}},"info":{}}`,
		"?keys=links,profile&value_only": `{"address":%q,"data":{"profile":{"age":4,"name":"A"},"links":{"home":"x"}},"info":{}}`,
	} {
		if query == "?keys=links,profile&value_only" {
			query += "=true"
		}
		same(t, query, n.ok(path+query).body, fmt.Sprintf(want, addressOf(k)))
	}
	same(t, "value only", n.ok(path+"?keys=links&value_only=1").body, `{"home":"x"}`)
	a := n.ok(path + "?with_info=true")
	same(t, "info", a.field("info.profile"), any(fields{
		"created": "2023-11-14T22:13:21.500000+00:00", "last_updated": "2023-11-14T22:13:23.500000+00:00", "original_item_hash": string(last), "last_update_item_hash": string(last),
	}))
	same(t, "keys of the info", keysOf(a.field("info")), []string{"links", "profile"})
	for target, want := range map[string]int{
		path + "?keys=absent": 404, path + "?keys=": 404, "/api/v0/aggregates/0xX.json": 404, "/api/v0/aggregates/" + addressOf(k): 404, path + "?limit=abc": 422, path + "?with_info=maybe": 422,
	} {
		same(t, target, n.get(target).status, want)
	}
	same(t, "none", n.get("/api/v0/aggregates/0xX.json").body, "No aggregate found for this address")
	same(t, "type of a refusal", n.get(path+"?limit=abc").header.Get("Content-Type"), "application/json; charset=utf-8")
}

func TestListOfAggregates(t *testing.T) {
	n := open(t)
	a, b := key(t, "a"), key(t, "b")
	set := func(k string, key_ string) {
		n.send(key(t, k), message.TypeAggregate, fields{"key": key_, "content": fields{"x": 1}})
	}
	set("a", "one")
	set("b", "one")
	set("a", "two")
	set("a", "one")
	for query, want := range map[string][]string{
		"": {"one", "two", "one"}, "sortOrder=1": {"one", "two", "one"}, "sortBy=creation_time": {"two", "one", "one"}, "sort_by=creation_time&sort_order=1": {"one", "one", "two"},
		"keys=two": {"two"}, "keys=one&addresses=" + addressOf(b): {"one"}, "addresses=" + addressOf(a): {"one", "two"}, "addresses=": {}, "pagination=1&page=2": {"two"},
	} {
		for _, path := range []string{"/api/v0/aggregates?", "/api/v0/aggregates.json?"} {
			same(t, query, n.ok(path+query).column("aggregates", "key"), want)
		}
	}
	same(t, "answer", n.ok("/api/v0/aggregates?keys=two").body, fmt.Sprintf(`{"aggregates":[{"address":%q,"key":"two","content":{"x":1},`+
		`"created":"2023-11-14T22:13:23.500000+00:00","last_updated":"2023-11-14T22:13:23.500000+00:00"}],`+
		`"pagination_item":"aggregates","pagination_page":1,"pagination_per_page":20,"pagination_total":1}`, addressOf(a)))
	for _, order := range []string{"sortOrder=1", "sortOrder=-1", "sortOrder=1&sortBy=creation_time", "sortBy=creation_time"} {
		want := n.ok("/api/v0/aggregates?"+order).column("aggregates", "address")
		sizes, got := walk(n, "/api/v0/aggregates?pagination=1&"+order, "aggregates", "address")
		same(t, order, got, want)
		same(t, "sizes of pages", sizes, []int{1, 1, 1})
	}
	for query, want := range map[string]int{"pagination=0": 422, "pagination=501": 422, "pagination=500": 200, "sortBy=size": 422, "cursor=bad!": 422, "cursor=eyJhIjoiYSJ9": 422} {
		same(t, query, n.get("/api/v0/aggregates?"+query).status, want)
	}
}

func TestAuthorizations(t *testing.T) {
	n := open(t)
	owner, second := key(t, "a"), key(t, "b")
	grant := func(k string, entries ...fields) {
		n.send(key(t, k), message.TypeAggregate, fields{"key": "security", "content": fields{"authorizations": entries}})
	}
	grant("a", fields{"address": "0xD1", "types": []string{"POST"}, "channels": []string{"ONE"}}, fields{"address": "0xD2", "chain": "SOL"}, fields{"address": "0xD1", "aggregate_keys": []string{"k"}})
	grant("b", fields{"address": "0xD1", "types": []string{"STORE"}, "post_types": []string{"note"}}, fields{"address": "0xD11", "chain": ""})
	parties := func(target string) []string {
		t.Helper()
		a := n.ok("/api/v0/authorizations/" + target)
		return keysOf(a.field("authorizations"))
	}
	granted, received := "granted/"+addressOf(owner)+".json", "received/0xD1.json"

	same(t, "granted", n.ok("/api/v0/authorizations/"+granted).body, fmt.Sprintf(`{"authorizations":{"0xD1":[{"channels":["ONE"],"types":["POST"]},{"aggregate_keys":["k"]}],"0xD2":[{"chain":"SOL"}]},`+
		`"address":%q,"pagination_item":"authorizations","pagination_page":1,"pagination_per_page":20,"pagination_total":2}`, addressOf(owner)))
	for target, want := range map[string][]string{
		granted: {"0xD1", "0xD2"}, granted + "?grantee=0xD2": {"0xD2"}, granted + "?grantee=0xd2": nil, granted + "?chains=ETH": {"0xD1"}, granted + "?chains=SOL,ETH": {"0xD1", "0xD2"},
		granted + "?pagination=1&page=2": {"0xD2"}, granted + "?page=9": nil, "granted/0xX.json": nil,
		received: {addressOf(second), addressOf(owner)}, received + "?granter=" + addressOf(second): {addressOf(second)}, received + "?types=POST": {addressOf(owner)},
		received + "?postTypes=chat&types=STORE": {addressOf(owner)}, received + "?aggregateKeys=other&types=STORE&channels=TWO": {addressOf(second)},
		"received/0xd1.json": nil, "received/0xD.json": nil, "received/0x%25.json": nil, "received/0xD11.json": {addressOf(second)}, "received/0xD11.json?chains=SOL": {addressOf(second)},
	} {
		same(t, target, parties(target), sorted(want))
	}
	for query, want := range map[string]int{"?pagination=0": 422, "?pagination=501": 422, "?page=0": 422, "?pagination=200": 200} {
		a := n.get("/api/v0/authorizations/" + received + query)
		same(t, query, a.status, want)
		same(t, query, a.header.Get("Content-Type"), "application/json; charset=utf-8")
	}
	n.send(owner, message.TypeAggregate, fields{"key": "security", "content": fields{"authorizations": []fields{}}})
	same(t, "after the owner took it back", parties(received), []string{addressOf(second)})
	same(t, "after the owner took it back", n.get("/api/v0/authorizations/"+granted).status, http.StatusOK)
}

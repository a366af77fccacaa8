package ccn_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}

func TestNumbersOfAddresses(t *testing.T) {
	n, _ := library(t)
	a, b := addressOf(key(t, "a")), addressOf(key(t, "b"))
	const numbersA = `{"messages":4,"aggregate":1,"forget":0,"instance":0,"post":2,"program":0,"store":1}`
	const numbersB = `{"messages":2,"aggregate":1,"forget":0,"instance":0,"post":1,"program":0,"store":0}`

	same(t, "v0 of one", n.ok("/api/v0/addresses/stats.json?addresses[]="+a+"&addresses%5B%5D=0xX").body, fmt.Sprintf(`{"data":{%q:%s}}`, a, numbersA))
	same(t, "v0 of all", keysOf(n.ok("/api/v0/addresses/stats.json").field("data")), sorted([]string{a, b}))
	most, least := fmt.Sprintf(`{%q:%s,%q:%s}`, a, numbersA, b, numbersB), fmt.Sprintf(`{%q:%s,%q:%s}`, b, numbersB, a, numbersA)
	const end = `"pagination_per_page":20,"pagination_page":1,"pagination_total":2,"pagination_item":"addresses"}`
	for query, want := range map[string]string{
		"": `{"data":` + most + `,` + end, "sortOrder=1": `{"data":` + least + `,` + end, "sortBy=store": `{"data":` + most + `,` + end, "sort_order=1": `{"data":` + least + `,` + end,
		"addressContains=" + strings.ToUpper(b[2:9]): fmt.Sprintf(`{"data":{%q:%s},`, b, numbersB) + strings.Replace(end, `total":2`, `total":1`, 1),
		"addressContains=%25":                        `{"data":{},` + strings.Replace(end, `total":2`, `total":0`, 1),
		"pagination=1&page=2":                        fmt.Sprintf(`{"data":{%q:%s},`, b, numbersB) + `"pagination_per_page":1,"pagination_page":2,"pagination_total":2,"pagination_item":"addresses"}`,
		"cursor=":                                    `{"data":` + most + `,"pagination_per_page":20,"next_cursor":null}`,
	} {
		same(t, query, n.ok("/api/v1/addresses/stats.json?"+query).body, want)
	}
	for query, want := range map[string]int{
		"sortBy=size": 422, "sortOrder=0": 422, "pagination=-1": 422, "page=0": 422, "addressContains=" + strings.Repeat("x", 67): 422, "addressContains=" + strings.Repeat("x", 66): 200,
		"cursor=bad": 422, "cursor=eyJhIjoiYSIsInYiOjFlMzB9": 422, "cursor=&pagination=0": 422,
	} {
		same(t, query, n.get("/api/v1/addresses/stats.json?"+query).status, want)
	}
}

func TestCursorsOfAddresses(t *testing.T) {
	n := open(t)
	for i := range 5 {
		n.sendPost(key(t, fmt.Sprint(i)), "note", fields{}, nil)
	}
	n.sendPost(key(t, "2"), "note", fields{"more": 1}, nil)
	for _, order := range []string{"sortBy=post&sortOrder=1", "sortBy=total", "sortBy=store"} {
		var got []string
		for cursor, pages := "", 0; ; pages++ {
			a := n.ok("/api/v1/addresses/stats.json?pagination=2&" + order + "&cursor=" + cursor)
			got = append(got, keysOf(a.field("data"))...)
			next, more := a.field("next_cursor").(string)
			if !more {
				same(t, "pages", pages, 2)
				break
			}
			cursor = next
		}
		if len(got) != 5 || len(slices.Compact(sorted(got))) != 5 {
			t.Errorf("%s: cursors gave %v, want five addresses once each", order, got)
		}
	}
}

func TestFilesOfAnAddress(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	var refs []message.ItemHash
	var hash message.ItemHash
	for _, raw := range []string{"one", "three", "seventy"} {
		hash = n.files.put(raw)
		refs = append(refs, n.send(k, message.TypeStore, fields{"item_type": "storage", "item_hash": hash}))
	}
	path := "/api/v0/addresses/" + addressOf(k) + "/files?"

	same(t, "answer", n.ok(path+"pagination=1").body, fmt.Sprintf(`{"address":%q,"total_size":15,"files":[{"file_hash":%q,"size":7,"type":"file",`+
		`"created":"2023-11-14T22:13:23.500000Z","item_hash":%q}],"pagination_page":1,"pagination_total":3,"pagination_per_page":1}`, addressOf(k), hash, refs[2]))
	for query, want := range map[string][]int{
		"": {2, 1, 0}, "sort_order=1": {0, 1, 2}, "sortOrder=1": {0, 1, 2}, "pagination=0": {2, 1, 0}, "pagination=2&page=2": {0}, "file_hash=" + string(hash): {2},
	} {
		same(t, query, n.ok(path+query).column("files", "item_hash"), pick(refs, want...))
	}
	sizes, got := walk(n, path+"pagination=2", "files", "item_hash")
	same(t, "files by cursors", got, pick(refs, 2, 1, 0))
	same(t, "sizes of pages", sizes, []int{2, 1})
	same(t, "time in cursor mode", n.ok(path + "cursor=&pagination=1").field("files").([]any)[0].(fields)["created"], any(json.Number("1700000003.5")))
	for target, want := range map[string]int{
		path + "page=2": 404, path + "file_hash=abc": 404, "/api/v0/addresses/0xX/files": 404, path + "cursor=not-valid!!!": 422, path + "sort_order=2": 422, path + "pagination=-1": 422,
	} {
		same(t, target, n.get(target).status, want)
	}
}

func TestWordsOfAnAddress(t *testing.T) {
	n, all := library(t)
	a := addressOf(key(t, "a"))
	same(t, "post types", n.ok("/api/v0/addresses/"+a+"/post_types").body, `{"address":"`+a+`","post_types":["chat","note"]}`)
	same(t, "channels", n.ok("/api/v0/addresses/"+a+"/channels").body, `{"address":"`+a+`","channels":["ONE","TWO"]}`)
	same(t, "of nobody", n.ok("/api/v0/addresses/0xX/channels").body, `{"address":"0xX","channels":[]}`)
	n.send(key(t, "a"), message.TypeForget, fields{"hashes": []message.ItemHash{all[1]}})
	same(t, "post types that are left", n.ok("/api/v0/addresses/"+a+"/post_types").body, `{"address":"`+a+`","post_types":["note"]}`)

	same(t, "all channels", n.ok("/api/v0/channels/list.json").body, `{"channels":["ONE","TWO"]}`)
	zipped := n.get("/api/v0/channels/list.json", "Accept-Encoding", "gzip")
	same(t, "all channels, compressed", unzip(t, zipped.body), `{"channels":["ONE","TWO"]}`)
	same(t, "status", zipped.status, http.StatusOK)
}

package ccn

import (
	"net/http"
	"strings"
)

// route is an endpoint. The table is what the mux, the document and the tests are
// made from.
type route struct {
	method  string
	path    string // As documents write it; {x} is a segment, {x}.json one with a suffix.
	summary string
	query   string // Names of its parameters; see parameters.
	also    []int  // Statuses besides 200 and those that every route may have.
	handle  func(*Server, http.ResponseWriter, *http.Request) error
}

const (
	pageNames   = "pagination page cursor"
	timeNames   = "startDate endDate"
	orderNames  = "sortBy sortOrder"
	postNames   = "addresses hashes refs types tags channels " + timeNames + " " + orderNames + " " + pageNames
	filterNames = "msgType msgTypes msgStatuses addresses owners refs contentHashes contentKeys contentTypes chains channels tags hashes paymentTypes " +
		timeNames + " startBlock endBlock"
	listNames    = filterNames + " contentFormat excludeContent " + orderNames + " " + pageNames
	historyNames = "tx_hash token chain provider origin origin_ref payment_method has_expiration exclude_payment_method resource resourceTypes direction " + timeNames
	grantNames   = "channels types postTypes chains aggregateKeys pagination page"
)

// routes is every endpoint. A new one needs its line here and nothing else.
func routes() []route {
	get := func(path, summary, query string, handle func(*Server, http.ResponseWriter, *http.Request) error, also ...int) route {
		return route{http.MethodGet, path, summary, query, also, handle}
	}
	post := func(path, summary string, handle func(*Server, http.ResponseWriter, *http.Request) error, also ...int) route {
		return route{http.MethodPost, path, summary, "", append(also, http.StatusBadRequest, http.StatusRequestEntityTooLarge), handle}
	}
	const (
		accepted, bad, missing, gone, invalid = http.StatusAccepted, http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity
		away, switching, upgrade              = http.StatusServiceUnavailable, http.StatusSwitchingProtocols, http.StatusUpgradeRequired
	)
	return append(fileRoutes(), []route{
		get("/{$}", "What this node is, for people", "", (*Server).index),
		get("/version", "Version of the interface", "", (*Server).version),
		get("/api/v0/version", "Version of the interface", "", (*Server).version),
		get("/metrics", "Numbers of the node, in Prometheus's text form", "", (*Server).metricsText),
		get("/metrics.json", "Numbers of the node", "", (*Server).metricsJSON),
		get("/api/v0/info/public.json", "Addresses at which other nodes reach this one", "", (*Server).publicInfo),
		get("/api/ccn/openapi.json", "This document", "", (*Server).openAPI),

		get("/api/ws0/messages", "Listen to messages, over a WebSocket", filterNames+" contentFormat excludeContent history", (*Server).listenMessages, switching, bad, upgrade),
		get("/api/ws0/status", "Listen to the numbers of the node, over a WebSocket", "", (*Server).listenStatus, switching, bad, upgrade),

		post("/api/v0/messages", "Hand in a message", (*Server).postMessage, accepted, gone, invalid, away),
		post("/api/v0/ipfs/pubsub/pub", "Hand in a message, the older way", (*Server).publish, http.StatusForbidden, invalid, away),
		post("/api/v0/p2p/pubsub/pub", "Hand in a message, the older way", (*Server).publish, http.StatusForbidden, invalid, away),
		get("/api/v0/messages.json", "List messages", listNames, (*Server).listMessages, bad, invalid, away),
		get("/api/v0/messages/page/{page}.json", "List messages", listNames, (*Server).listMessages, bad, invalid, away),
		get("/api/v0/messages/hashes", "List the hashes of messages by when they came", "status "+timeNames+" sortOrder hash_only pagination page", (*Server).listHashes, invalid, away),
		get("/api/v0/messages/{item_hash}", "A message and what became of it", "", (*Server).oneMessage, bad, missing, gone),
		get("/api/v0/messages/{item_hash}/status", "What became of a message", "", (*Server).messageStatus, bad, missing),
		get("/api/v0/messages/{item_hash}/content", "The content of a message", "", (*Server).messageContent, bad, missing, invalid),
		get("/api/v0/messages/{item_hash}/consumed_credits", "What a machine or a file has cost", "", (*Server).consumedCredits),

		get("/api/v0/posts.json", "List posts, each with its latest content", postNames, (*Server).listPostsV0, bad, invalid, away),
		get("/api/v0/posts/page/{page}.json", "List posts, each with its latest content", postNames, (*Server).listPostsV0, bad, invalid, away),
		get("/api/v1/posts.json", "List posts in short", postNames, (*Server).listPostsV1, bad, invalid, away),
		get("/api/v1/posts/page/{page}.json", "List posts in short", postNames, (*Server).listPostsV1, bad, invalid, away),

		get("/api/v0/aggregates/{address}.json", "The aggregates of an address", "keys limit with_info value_only", (*Server).addressAggregates, missing, invalid),
		get("/api/v0/aggregates", "List aggregates", "keys addresses "+orderNames+" "+pageNames, (*Server).listAggregates, invalid, away),
		get("/api/v0/aggregates.json", "List aggregates", "keys addresses "+orderNames+" "+pageNames, (*Server).listAggregates, invalid, away),
		get("/api/v0/authorizations/granted/{address}.json", "What an address allows others", grantNames+" grantee", (*Server).granted, invalid),
		get("/api/v0/authorizations/received/{address}.json", "What others allow an address", grantNames+" granter", (*Server).received, invalid),

		get("/api/v0/addresses/stats.json", "How many messages addresses have sent", "addresses[]", (*Server).statsV0, invalid),
		get("/api/v1/addresses/stats.json", "Addresses by how many messages they have sent", "addressContains "+orderNames+" "+pageNames, (*Server).statsV1, invalid, away),
		get("/api/v0/addresses/{address}/files", "The files of an address", "file_hash sort_order "+pageNames, (*Server).addressFiles, missing, invalid, away),
		get("/api/v0/addresses/{address}/post_types", "The types of the posts of an address", "", (*Server).addressPostTypes),
		get("/api/v0/addresses/{address}/channels", "The channels that an address has used", "", (*Server).addressChannels),
		get("/api/v0/addresses/{address}/balance", "What an address has, and what is bound by what it keeps", "chain include_credit_details", (*Server).balance, invalid),
		get("/api/v0/addresses/{address}/credit_history", "What an address was given, and what was taken from it", historyNames+" sort_by sort_order "+pageNames, (*Server).creditHistory, missing, invalid, away),
		get("/api/v0/addresses/{address}/credit_history/summary", "The sums of that history", historyNames, (*Server).creditSummary, invalid),
		get("/api/v0/balances", "The tokens of all addresses", "chains min_balance "+pageNames, (*Server).balances, invalid, away),
		get("/api/v0/credit_balances", "The credits of all addresses", "min_balance "+pageNames, (*Server).creditBalances, invalid, away),
		get("/api/v0/core/{node_id}/metrics", "What was measured of a core channel node", "start_date end_date sort", (*Server).coreMetrics, missing, invalid),
		get("/api/v0/compute/{node_id}/metrics", "What was measured of a compute node", "start_date end_date sort", (*Server).computeMetrics, missing, invalid),
		get("/api/v0/programs/on/message", "The programs that messages start", "sort_order", (*Server).programsOnMessage, bad, invalid, away),
		get("/api/v0/price/{item_hash}", "What a message costs", "include_size", (*Server).price, bad, missing, gone),
		post("/api/v0/price/estimate", "What a message would cost", (*Server).estimatePrice, invalid),
		post("/api/v0/price/estimate/instance", "What a machine would cost", (*Server).estimateInstance, invalid),
		post("/api/v0/price/recalculate", "Compute all costs again, for the operator", (*Server).reprice, http.StatusUnauthorized, away),
		post("/api/v0/price/{item_hash}/recalculate", "Compute a cost again, for the operator", (*Server).reprice, bad, http.StatusUnauthorized, missing, away),
		get("/api/v0/costs", "What resources cost and have burnt", "address item_hash payment_type include_details include_size pagination page", (*Server).listCosts, invalid, away),

		get("/api/v0/channels/list.json", "The channels that anybody has used", "", (*Server).listChannels),
	}...)
}

// suffix is that of paths whose last segment varies and has one. The mux has no
// pattern for it, so the whole segment varies there, and match cuts it.
const suffix = ".json"

// pattern is the mux's for a route. Where a path varies in the middle, what comes
// after varies too, since the mux refuses two patterns of which neither is a part
// of the other, like messages/page/{page} and messages/{item_hash}/status.
func (rt *route) pattern() string {
	path := strings.TrimSuffix(rt.path, suffix)
	if path != rt.path && !strings.HasSuffix(path, "}") {
		path = rt.path
	}
	if rest, ok := strings.CutPrefix(path, "/api/v0/messages/{item_hash}/"); ok && rest != "" {
		path = "/api/v0/messages/{item_hash}/{view}"
	}
	return rt.method + " " + path
}

// patterns are the routes of the table by their patterns.
func patterns(table []route) map[string][]route {
	out := map[string][]route{}
	for _, rt := range table {
		out[rt.pattern()] = append(out[rt.pattern()], rt)
	}
	return out
}

// match reports whether the path of a request, which has the route's pattern, is
// that of the route, and gives the request the values of its segments.
func (rt *route) match(r *http.Request) bool {
	if strings.HasSuffix(rt.path, "{$}") || strings.HasSuffix(rt.path, "...}") {
		return true
	}
	want, got := strings.Split(rt.path, "/"), strings.Split(r.URL.EscapedPath(), "/")
	if len(want) != len(got) {
		return false
	}
	for i, segment := range want {
		name, varies := strings.CutPrefix(segment, "{")
		if !varies {
			if segment != unescape(got[i], false) {
				return false
			}
			continue
		}
		name, end, _ := strings.Cut(name, "}")
		value, ok := strings.CutSuffix(unescape(got[i], false), end)
		if !ok || value == "" {
			return false
		}
		r.SetPathValue(name, value)
	}
	return true
}

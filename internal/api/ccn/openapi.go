package ccn

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// schema is a part of a document about JSON.
type schema map[string]any

func textSchema() schema                { return schema{"type": "string"} }
func wordSchema(words ...string) schema { return schema{"type": "string", "enum": words} }
func hashSchema() schema {
	return schema{"type": "string", "description": "A sha256 in hex, or a CID."}
}
func flagSchema(def bool) schema { return schema{"type": "boolean", "default": def} }

func listSchema(of string) schema {
	return schema{"type": "string", "description": "Values with commas between them; " + of}
}

func numberSchema(low int64, def any) schema {
	out := schema{"type": "integer", "minimum": low}
	if def != nil {
		out["default"] = def
	}
	return out
}

// parameters are all parameters of queries by their names.
func parameters() map[string]schema {
	seconds := schema{"type": "number", "minimum": 0, "description": "Unix time in seconds; 0 is no bound."}
	return map[string]schema{
		"pagination": numberSchema(0, nil), "page": numberSchema(1, 1), "startBlock": numberSchema(0, 0), "endBlock": numberSchema(0, 0),
		"cursor":    {"type": "string", "description": "Where the list goes on, as the last answer said; empty for its beginning. The answer then has next_cursor instead of totals."},
		"startDate": seconds, "endDate": seconds, "start_date": seconds, "end_date": seconds, "sort": wordSchema("ASC", "DESC"),
		"sortBy": textSchema(), "sortOrder": wordSchema("-1", "1"), "sort_order": wordSchema("-1", "1"),
		"msgType":     {"type": "string", "deprecated": true},
		"msgTypes":    listSchema("types of messages. V-PROGRAM messages are in a list only if they are named here or by their hashes."),
		"msgStatuses": listSchema("statuses; processed and removing unless the query says otherwise. forgotten or removed must be alone, and is answered with what is left of the messages."),
		"addresses":   listSchema("senders of messages, or owners of posts and aggregates."), "owners": listSchema("values of content.address."),
		"refs": listSchema("values of content.ref."), "contentHashes": listSchema("values of content.item_hash."), "contentKeys": listSchema("values of content.key."),
		"contentTypes": listSchema("values of content.type."), "types": listSchema("types of posts, or of messages."), "chains": listSchema("chains."), "channels": listSchema("channels."),
		"tags": listSchema("tags, of which one must be there."), "hashes": listSchema("item hashes."), "paymentTypes": listSchema("hold, superfluid or credit."),
		"contentFormat": wordSchema("full", "headers", "none"), "excludeContent": {"type": "boolean", "deprecated": true},
		"status": wordSchema("pending", "processed", "rejected", "forgotten", "removing", "removed"), "hash_only": flagSchema(true),
		"include_size": flagSchema(false), "address": textSchema(), "item_hash": hashSchema(), "payment_type": wordSchema("hold", "superfluid", "credit"),
		"include_details": {"type": "integer", "minimum": 0, "maximum": 2, "default": 0},
		"history":         {"type": "integer", "minimum": 0, "maximum": historyMax, "default": historyUsual},
		"keys":            listSchema("keys of aggregates."), "limit": {"type": "integer", "deprecated": true}, "with_info": flagSchema(false), "value_only": flagSchema(false),
		"postTypes": listSchema("types of posts."), "aggregateKeys": listSchema("keys of aggregates."), "grantee": textSchema(), "granter": textSchema(),
		"chain": textSchema(), "include_credit_details": flagSchema(false), "min_balance": numberSchema(1, nil), "tx_hash": textSchema(), "token": textSchema(),
		"provider": textSchema(), "origin": textSchema(), "origin_ref": textSchema(), "payment_method": textSchema(), "has_expiration": {"type": "boolean"},
		"exclude_payment_method": listSchema("methods."), "resource": hashSchema(), "resourceTypes": listSchema("types of messages."), "direction": wordSchema("incoming", "outgoing"),
		"sort_by":     wordSchema("message_timestamp", "expiration_date", "payment_method", "amount", "origin", "tx_hash", "provider"),
		"addresses[]": {"type": "array", "items": textSchema()}, "addressContains": {"type": "string", "maxLength": containsMax}, "file_hash": hashSchema(),
	}
}

// openAPI answers with the document of this interface.
func (s *Server) openAPI(w http.ResponseWriter, r *http.Request) error {
	raw, err := Document(s.self.Version)
	if err != nil {
		return err
	}
	return s.answerJSON(w, r, http.StatusOK, raw)
}

//go:generate go test . -run ^TestDocumentIsCommitted$ -update

// Document returns the OpenAPI 3.1 document of the interface, made from its table
// of routes.
func Document(version string) ([]byte, error) {
	paths := map[string]map[string]any{}
	for _, rt := range routes() {
		path := strings.Replace(strings.TrimSuffix(rt.path, "{$}"), "...}", "}", 1)
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(rt.method)] = rt.operation()
	}
	return json.MarshalIndent(schema{
		"openapi": "3.1.0",
		"info": schema{
			"title": "Core channel node", "version": version,
			"description": "What the clients of the Aleph network ask of a node. Failures are answered in plain text.",
		},
		"paths": paths,
	}, "", "  ")
}

// operation is a route in the document.
func (rt *route) operation() schema {
	op := schema{"summary": rt.summary, "responses": rt.responses()}
	var params []schema
	for segment := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok && name != "$}" {
			name, _, _ = strings.Cut(name, "}")
			name = strings.TrimSuffix(name, "...")
			params = append(params, schema{"name": name, "in": "path", "required": true, "schema": textSchema()})
		}
	}
	known := parameters()
	for _, name := range strings.Fields(rt.query) {
		params = append(params, schema{"name": name, "in": "query", "schema": known[name]})
	}
	if params != nil {
		op["parameters"] = params
	}
	if takes, _ := rt.media(); rt.method == http.MethodPost || rt.method == http.MethodPatch {
		op["requestBody"] = schema{"required": true, "content": schema{takes: schema{"schema": schema{"type": "object"}}}}
	}
	return op
}

// responses are the answers of a route by their statuses.
func (rt *route) responses() schema {
	_, gives := rt.media()
	out := schema{"200": schema{"description": http.StatusText(http.StatusOK), "content": schema{gives: schema{}}}}
	for _, status := range rt.also {
		kind := "text/plain"
		if status < http.StatusBadRequest {
			kind = "application/json"
		}
		out[strconv.Itoa(status)] = schema{"description": http.StatusText(status), "content": schema{kind: schema{}}}
	}
	return out
}

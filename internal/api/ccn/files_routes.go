package ccn

import (
	"net/http"
	"slices"
	"strings"
)

// fileRoutes are the endpoints for files.
func fileRoutes() []route {
	const (
		invalid, missing, bad, denied, unpaid = http.StatusUnprocessableEntity, http.StatusNotFound, http.StatusBadRequest, http.StatusForbidden, http.StatusPaymentRequired
		accepted, large, noRoom, away         = http.StatusAccepted, http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage, http.StatusServiceUnavailable
		backend                               = http.StatusBadGateway
	)
	get := func(path, summary string, handle func(*Server, http.ResponseWriter, *http.Request) error, also ...int) route {
		return route{method: http.MethodGet, path: path, summary: summary, also: append(also, away), handle: handle}
	}
	post := func(path, summary string, handle func(*Server, http.ResponseWriter, *http.Request) error, also ...int) route {
		return route{method: http.MethodPost, path: path, summary: summary, also: append(also, large, noRoom, away), handle: handle}
	}
	return []route{
		post("/api/v0/storage/add_file", "Bring a file, alone or with the STORE message that names it", (*Server).addFile, accepted, bad, unpaid, denied, invalid),
		post("/api/v0/storage/add_json", "Bring a JSON document", (*Server).addJSON, bad, invalid),
		post("/api/v0/ipfs/add_file", "Bring a file to IPFS", (*Server).addIPFSFile, accepted, bad, unpaid, denied, invalid),
		post("/api/v0/ipfs/add_json", "Bring a JSON document to IPFS", (*Server).addIPFSJSON, bad, denied, invalid),
		post("/api/v0/ipfs/add_car", "Bring an IPFS directory as an archive, with the STORE message that names it", (*Server).addCAR, accepted, bad, unpaid, denied, invalid, backend),
		get("/api/v0/storage/limits.json", "How much may be brought", (*Server).storageLimits),
		get("/api/v0/storage/{hash}", "A file in JSON", (*Server).fileJSON, bad, missing, large),
		get("/api/v0/storage/raw/{hash}", "A file as it is, or a directory as a tar", (*Server).fileRaw, bad, missing),
		get("/api/v0/storage/metadata/{hash}", "What is known of a file", (*Server).fileMetadata, bad, missing),
		get("/api/v0/storage/count/{hash}", "How many want a file to be kept", (*Server).countPins),
		get("/api/v0/storage/by-message-hash/{message_hash}", "The file that a STORE message names", (*Server).fileOfMessage, bad, missing),
		get("/api/v0/storage/by-ref/{ref}", "The latest version of a file, by its first STORE message", (*Server).fileOfRef, bad, missing),
		get("/api/v0/storage/by-ref/{address}/{ref}", "The latest version of a file, by its owner's name for it", (*Server).fileOfOwnersRef, missing),

		post(uploadsPath, "Begin to bring a file in pieces (tus 1.0)", (*Server).beginUpload, bad, unpaid, denied, http.StatusPreconditionFailed, invalid),
		get(uploadsPath+"/{id}", "How far a file has come", (*Server).uploadStatus, missing, http.StatusPreconditionFailed),
		{method: http.MethodPatch, path: uploadsPath + "/{id}", summary: "Bring the next bytes of a file", also: []int{bad, missing, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnsupportedMediaType, invalid, noRoom, away}, handle: (*Server).goOn},
		{method: http.MethodDelete, path: uploadsPath + "/{id}", summary: "Bring no more of a file", also: []int{missing, http.StatusPreconditionFailed, away}, handle: (*Server).dropUpload},

		post("/api/v0/add", "Bring files and folders to IPFS, as with Kubo", (*Server).kuboAdd, bad, missing),
		get("/ipfs/{cid}", "IPFS content that this node keeps", (*Server).gateway, bad, missing),
		get("/ipfs/{cid}/{path...}", "IPFS content that this node keeps", (*Server).gateway, bad, missing),
	}
}

// takesFiles reports whether the body of a request is bounded by its handler.
func (rt *route) takesFiles() bool {
	return rt.method == http.MethodPatch || rt.method == http.MethodPost && slices.Contains([]string{
		"/api/v0/storage/add_file", "/api/v0/ipfs/add_file", "/api/v0/ipfs/add_car", "/api/v0/add",
	}, rt.path)
}

// takesDocuments reports whether the body is a file in JSON, which its handler bounds.
func (rt *route) takesDocuments() bool {
	return slices.Contains([]string{"/api/v0/storage/add_json", "/api/v0/ipfs/add_json"}, rt.path)
}

// media are the types of what a route takes and of what it answers.
func (rt *route) media() (takes, gives string) {
	const bytes = "application/octet-stream"
	takes, gives = "application/json", "application/json"
	switch {
	case rt.method == http.MethodPatch:
		takes = offsetType
	case rt.takesFiles():
		takes = "multipart/form-data"
	}
	switch {
	case strings.HasPrefix(rt.path, "/api/v0/storage/raw/") || strings.HasPrefix(rt.path, "/ipfs/"):
		gives = bytes
	case rt.path == "/{$}":
		gives = "text/html"
	case rt.path == "/metrics":
		gives = "text/plain"
	}
	return takes, gives
}

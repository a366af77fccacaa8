package v1

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// bodyMax bounds JSON bodies: the greatest message and an offer around it.
const bodyMax = 2<<20 + 64<<10

// op describes an endpoint.
func op(id, method, path, summary string, status int, tags ...string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: status, Tags: tags, MaxBodyBytes: bodyMax,
		Errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable},
	}
}

// registerOperation adds what whoever runs a process of any role asks it.
func (s *Server) registerOperation() {
	handle(s, op("health", http.MethodGet, "/healthz", "Whether the process lives", http.StatusOK, "operation"), s.health)
	handle(s, op("ready", http.MethodGet, "/readyz", "Whether each part can do its work", http.StatusOK, "operation"), s.ready)
	metrics := op("metrics", http.MethodGet, "/metrics", "Prometheus metrics", http.StatusOK, "operation")
	metrics.Responses = bytesResponse("text/plain", "Metrics in text form")
	stream(s, metrics, func(w http.ResponseWriter, r *http.Request, _ *struct{}) error {
		s.metrics().ServeHTTP(w, r)
		return nil
	})
}

// registerShared adds what every node answers.
func (s *Server) registerShared() {
	handle(s, op("info", http.MethodGet, "/api/v1/info", "Who the node is", http.StatusOK, "node"), s.info)
	peers := op("peers", http.MethodGet, "/api/v1/peers", "The peers that are connected, for who runs the node: only to its own machine", http.StatusOK, "operation")
	peers.Errors = append(peers.Errors, http.StatusForbidden)
	handle(s, peers, s.peers)
	logs := op("logs", http.MethodGet, "/api/v1/jobs/{spec}/logs", "The console of a job's machine, for its owner", http.StatusOK, "jobs")
	logs.Errors = append(logs.Errors, http.StatusForbidden)
	logs.Responses = bytesResponse("text/plain", "What the machine wrote to its console; with follow=1 the answer goes on")
	stream(s, logs, s.logs)
}

// registerCoordinator adds what only a coordinator answers.
func (s *Server) registerCoordinator() {
	handle(s, op("nodes", http.MethodGet, "/api/v1/nodes", "The nodes of the network", http.StatusOK, "node"), s.nodes)
	handle(s, op("quote", http.MethodPost, "/api/v1/quotes", "What an instance costs and where it would run", http.StatusOK, "jobs"), s.quote)

	post := op("post-message", http.MethodPost, "/api/v1/messages", "Publish a signed message", http.StatusAccepted, "messages")
	post.Errors = append(post.Errors, http.StatusUnprocessableEntity)
	handle(s, post, s.postMessage)
	handle(s, op("message", http.MethodGet, "/api/v1/messages/{hash}", "A message and what became of it", http.StatusOK, "messages"), s.message)

	create := op("create-job", http.MethodPost, "/api/v1/jobs", "Offer to pay for an instance", http.StatusAccepted, "jobs")
	create.Errors = append(create.Errors, http.StatusPaymentRequired, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity)
	handle(s, create, s.createJob)
	handle(s, op("jobs", http.MethodGet, "/api/v1/jobs", "The jobs of an owner, newest first, without their machines", http.StatusOK, "jobs"), s.jobs)
	handle(s, op("job", http.MethodGet, "/api/v1/jobs/{spec}", "A job: where it runs and why, and what it costs", http.StatusOK, "jobs"), s.job)
	handle(s, op("receipt", http.MethodGet, "/api/v1/jobs/{spec}/receipt", "What a job cost and who got it", http.StatusOK, "jobs"), s.receipt)
	stop := op("stop-job", http.MethodPost, "/api/v1/jobs/{spec}/stop", "End a job, signed by its payer", http.StatusAccepted, "jobs")
	stop.Errors = append(stop.Errors, http.StatusForbidden, http.StatusConflict)
	handle(s, stop, s.stopJob)

	permit := op("permit", http.MethodPost, "/api/v1/permits", "Relay an EIP-2612 permit to the payment contract", http.StatusAccepted, "accounts")
	permit.Errors = append(permit.Errors, http.StatusPaymentRequired, http.StatusForbidden, http.StatusConflict)
	handle(s, permit, s.permit)
	handle(s, op("account", http.MethodGet, "/api/v1/accounts/{address}", "What an address owns and owes", http.StatusOK, "accounts"), s.account)

	upload := op("upload", http.MethodPost, "/api/v1/blobs", "Store bytes under their sha256", http.StatusCreated, "blobs")
	upload.RequestBody = &huma.RequestBody{Required: true, Content: bytesContent("application/octet-stream")}
	upload.Errors = append(upload.Errors, http.StatusPaymentRequired)
	upload.Responses = s.jsonResponse(http.StatusCreated, "The blob's name", new(blobView))
	stream(s, upload, s.upload)
	download := op("download", http.MethodGet, "/api/v1/blobs/{hash}", "The bytes of a blob; ranges are served", http.StatusOK, "blobs")
	download.Responses = bytesResponse("application/octet-stream", "The bytes, whole or the range that was asked for")
	stream(s, download, s.download)
}

// registerCompute adds what only a compute node answers.
func (s *Server) registerCompute() { s.registerMachines() }

func (s *Server) registerMachines() {
	s.registerDrain()
	handle(s, op("machines", http.MethodGet, "/api/v1/vms", "The machines on this host", http.StatusOK, "machines"), s.machines)
	handle(s, op("machine", http.MethodGet, "/api/v1/vms/{spec}", "A machine on this host and its history", http.StatusOK, "machines"), s.machine)
}

func bytesContent(mediaType string) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
}

func bytesResponse(mediaType, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: bytesContent(mediaType)}}
}

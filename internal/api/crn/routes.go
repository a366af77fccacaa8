package crn

import (
	"net/http"
	"net/url"
	"strings"
)

// route is an endpoint.
type route struct {
	method string
	path   string // {x} is a segment.
	cors   bool   // Pages of any origin may use it.
	long   bool   // It bounds its body itself.
	handle func(*Server, *call) error
}

// match reports whether a path, as it was sent, is that of the route, and what its
// segments are.
func (r *route) match(path string) (map[string]string, bool) {
	if !strings.Contains(r.path, "{") {
		return nil, path == r.path
	}
	want, got := strings.Split(r.path, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i, segment := range want {
		name, isParam := strings.CutPrefix(segment, "{")
		if !isParam {
			if segment != got[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}

// routes is every endpoint but the functions'. A new one needs its line here and
// nothing else.
func routes() []route {
	type handle = func(*Server, *call) error
	get := func(path string, h handle) route {
		return route{method: http.MethodGet, path: path, cors: true, handle: h}
	}
	post := func(path string, h handle) route {
		return route{method: http.MethodPost, path: path, cors: true, handle: h}
	}
	remove := func(path string, h handle) route {
		return route{method: http.MethodDelete, path: path, cors: true, handle: h}
	}
	// Schedulers are no pages.
	private := func(r route) route { r.cors = false; return r }
	long := func(r route) route { r.long = true; return r }
	const vm = "/control/machine/{ref}"
	return []route{
		get("/about/login", (*Server).login),
		get("/about/executions/list", (*Server).listV1),
		get("/v2/about/executions/list", (*Server).listV2),
		get("/about/executions/details", (*Server).details),
		get("/about/executions/records", (*Server).records),
		get("/about/usage/system", (*Server).usage),
		get("/about/certificates", (*Server).certificates),
		get("/about/capability", (*Server).capability),
		get("/about/config", (*Server).aboutConfig),

		get("/status/check/fastapi", (*Server).checkProgram),
		get("/status/check/fastapi/legacy", (*Server).checkProgramLegacy),
		get("/status/check/host", (*Server).checkHost),
		get("/status/check/version", (*Server).checkVersion),
		get("/status/check/ipv6", (*Server).checkIPv6),
		get("/status/config", (*Server).publicConfig),
		get("/debug/haproxy", (*Server).mappings),

		post("/control/allocation/notify", (*Server).notify),
		post("/control/reserve_resources", (*Server).reserve),
		post(vm+"/update", (*Server).update),
		post("/control/{ref}/update", (*Server).update), // As a client writes it.

		get(vm+"/stream_logs", (*Server).streamLogs),
		get(vm+"/logs", (*Server).logs),
		post(vm+"/expire", (*Server).expire),
		post(vm+"/start", (*Server).start),
		post(vm+"/stop", (*Server).stop),
		post(vm+"/reboot", (*Server).reboot),
		post(vm+"/erase", (*Server).erase),
		post(vm+"/reinstall", (*Server).reinstall),
		post(vm+"/backup", (*Server).beginBackup),
		get(vm+"/backup", (*Server).latestBackup),
		get(vm+"/backup/{backup_id}", (*Server).downloadBackup),
		remove(vm+"/backup/{backup_id}", (*Server).deleteBackup),
		long(post(vm+"/restore", (*Server).restore)),
		post(vm+"/confidential/initialize", (*Server).initialize),
		get(vm+"/confidential/measurement", (*Server).measurement),
		post(vm+"/confidential/inject_secret", (*Server).inject),

		private(post("/control/allocations", (*Server).allocate)),
		private(post("/control/network/recreate", (*Server).recreateNetwork)),
		private(post("/control/proxy/regenerate", (*Server).regenerateProxy)),
		private(post(vm+"/migration/export", (*Server).export)),
		private(get(vm+"/migration/export/status", (*Server).exportStatus)),
		private(get(vm+"/migration/disk/{filename}", (*Server).exportedDisk)),
		private(post(vm+"/migration/cleanup", (*Server).cleanExport)),
		private(post("/control/migrate", (*Server).importVM)),
		private(get("/control/migrate/{ref}/status", (*Server).importStatus)),
	}
}

package crn

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// versionMax bounds the text of a version.
const versionMax = 128

// version is one as PEP 440 has it.
type version struct {
	epoch   uint64
	release []uint64
	pre     string // a, b or rc; "" for none.
	preN    uint64
	post    *uint64
	dev     *uint64
	local   []string
}

var versionForm = regexp.MustCompile(`^v?(?:(\d+)!)?(\d+(?:\.\d+)*)` +
	`(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?(\d+)?)?` +
	`(?:-(\d+)|[-_.]?(post|rev|r)[-_.]?(\d+)?)?` +
	`(?:[-_.]?(dev)[-_.]?(\d+)?)?` +
	`(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$`)

func parseVersion(text string) (*version, error) {
	bad := fmt.Errorf("Invalid version: '%.*s'", versionMax, text) //nolint:staticcheck // ST1005: what clients are told.
	m := versionForm.FindStringSubmatch(strings.ToLower(strings.TrimSpace(text)))
	if len(text) > versionMax || m == nil {
		return nil, bad
	}
	var wrong error
	number := func(s string) uint64 {
		if s == "" {
			return 0
		}
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			wrong = bad
		}
		return n
	}
	v := &version{epoch: number(m[1]), preN: number(m[4])}
	for part := range strings.SplitSeq(m[2], ".") {
		v.release = append(v.release, number(part))
	}
	switch m[3] {
	case "":
	case "alpha", "a":
		v.pre = "a"
	case "beta", "b":
		v.pre = "b"
	default:
		v.pre = "rc"
	}
	if m[5] != "" || m[6] != "" {
		n := number(m[5] + m[7])
		v.post = &n
	}
	if m[8] != "" {
		n := number(m[9])
		v.dev = &n
	}
	if m[10] != "" {
		v.local = strings.FieldsFunc(m[10], func(r rune) bool { return strings.ContainsRune("-_.", r) })
	}
	return v, wrong
}

// String is the version in its normal form.
func (v *version) String() string {
	var b strings.Builder
	if v.epoch > 0 {
		fmt.Fprintf(&b, "%d!", v.epoch)
	}
	for i, n := range v.release {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%d", n)
	}
	if v.pre != "" {
		fmt.Fprintf(&b, "%s%d", v.pre, v.preN)
	}
	if v.post != nil {
		fmt.Fprintf(&b, ".post%d", *v.post)
	}
	if v.dev != nil {
		fmt.Fprintf(&b, ".dev%d", *v.dev)
	}
	if len(v.local) > 0 {
		b.WriteString("+" + strings.Join(v.local, "."))
	}
	return b.String()
}

// compare orders versions.
func (v *version) compare(w *version) int {
	return cmp.Or(
		cmp.Compare(v.epoch, w.epoch), slices.Compare(trimmed(v.release), trimmed(w.release)),
		cmp.Compare(v.stage(), w.stage()), cmp.Compare(v.preN, w.preN),
		orLeast(v.post, w.post, -1), orLeast(v.dev, w.dev, 1), compareLocal(v.local, w.local),
	)
}

// trimmed is a release without zeros at its end.
func trimmed(release []uint64) []uint64 {
	for len(release) > 0 && release[len(release)-1] == 0 {
		release = release[:len(release)-1]
	}
	return release
}

// stage orders what comes before a release, and the release.
func (v *version) stage() int {
	switch {
	case v.pre != "":
		return strings.Index("a b rc", v.pre)
	case v.post == nil && v.dev != nil:
		return -1
	default:
		return len("a b rc")
	}
}

// orLeast orders numbers of which one may be missing; what is missing comes as
// missing says.
func orLeast(a, b *uint64, missing int) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return missing
	case b == nil:
		return -missing
	default:
		return cmp.Compare(*a, *b)
	}
}

func compareLocal(a, b []string) int {
	return slices.CompareFunc(a, b, func(x, y string) int {
		n, errX := strconv.ParseUint(x, 10, 64)
		m, errY := strconv.ParseUint(y, 10, 64)
		switch {
		case errX == nil && errY == nil:
			return cmp.Compare(n, m)
		case errX == nil:
			return 1
		case errY == nil:
			return -1
		default:
			return strings.Compare(x, y)
		}
	})
}

// checkVersion compares the version of the node with another.
func (s *Server) checkVersion(c *call) error {
	text := c.r.URL.Query().Get("reference")
	if text == "" {
		return refuse(http.StatusBadRequest, "Query field '?reference=` must be specified")
	}
	reference, err := parseVersion(text)
	if err != nil {
		return refuse(http.StatusBadRequest, err.Error())
	}
	current, err := parseVersion(s.self.Version)
	if err != nil {
		return refuse(http.StatusServiceUnavailable, err.Error())
	}
	if current.compare(reference) < 0 {
		return refuse(http.StatusForbidden, fmt.Sprintf("Outdated: version %s < %s", current, reference))
	}
	s.text(c, http.StatusOK, fmt.Sprintf("Up-to-date: version %s >= %s", current, reference))
	return nil
}

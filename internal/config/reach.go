package config

import (
	"net"
	"net/netip"
	"net/url"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func hostOf(bind string) string {
	host, _, err := net.SplitHostPort(bind)
	if err != nil {
		return bind
	}
	return host
}

// isUnspecified reports an address that stands for all of this host: "" too.
func isUnspecified(host string) bool {
	if host == "" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsUnspecified()
}

func checkURL(key, s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errs.New(errs.Invalid, "%s is %q, want http:// or https:// and a host", key, s)
	}
	return nil
}

func checkIP(s string) error {
	if s == "" {
		return nil
	}
	if a, err := netip.ParseAddr(s); err != nil || a.IsUnspecified() {
		return errs.New(errs.Invalid, "public_ip is %q, want the address of this host as others see it", s)
	}
	return nil
}

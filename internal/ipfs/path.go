package ipfs

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// ParsePath reads "cid", "cid/folder/name" or the same after "/ipfs/", and
// returns the CID and the names behind it.
func ParsePath(path string) (cid.Cid, []string, error) {
	if len(path) > pathMax {
		return cid.Undef, nil, errs.New(errs.Invalid, "path has %d bytes, want at most %d", len(path), pathMax)
	}
	root, rest, _ := strings.Cut(strings.TrimPrefix(path, "/ipfs/"), "/")
	c, err := ParseCID(root)
	if err != nil {
		return cid.Undef, nil, err
	}
	names, err := splitPath(rest)
	return c, names, err
}

// splitPath cuts a path into names. A slash at its end says nothing.
func splitPath(path string) ([]string, error) {
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil, nil
	}
	if len(path) > pathMax {
		return nil, errs.New(errs.Invalid, "path has %d bytes, want at most %d", len(path), pathMax)
	}
	names := strings.Split(path, "/")
	if len(names) > depthMax {
		return nil, errs.New(errs.Invalid, "path has %d names, want at most %d", len(names), depthMax)
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// checkName refuses names that no file system can have, or that lead elsewhere
// on one.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return errs.New(errs.Invalid, "name %q in a path leads nowhere", name)
	case len(name) > nameMax:
		return errs.New(errs.Invalid, "name %.80q has %d bytes, want at most %d", name, len(name), nameMax)
	case strings.ContainsAny(name, "/\x00"):
		return errs.New(errs.Invalid, "name %.80q has a slash or a zero byte in it", name)
	case !utf8.ValidString(name):
		return errs.New(errs.Invalid, "name %.80q is not UTF-8", name)
	default:
		return nil
	}
}

// Resolve follows a path as ParsePath reads it, and returns the CID at its end.
// What is not there is errs.NotFound.
func (s *Store) Resolve(ctx context.Context, path string) (cid.Cid, error) {
	c, names, err := ParsePath(path)
	if err != nil {
		return cid.Undef, err
	}
	d := s.dag()
	defer d.close()
	for _, name := range names {
		if ctx.Err() != nil {
			return cid.Undef, context.Cause(ctx)
		}
		if c, err = d.child(c, name); err != nil {
			return cid.Undef, err
		}
	}
	return c, nil
}

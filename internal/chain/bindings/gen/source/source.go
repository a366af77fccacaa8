// Package source hashes the files that decide the contracts' bytecode, so that stale bindings are noticed without a
// compiler.
package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
)

// Sum returns the hash, in hex, of the sources, the compiler settings, the pinned versions and the access table in the
// folder of the contracts.
func Sum(contracts fs.FS) (string, error) {
	names := []string{"access.json", "foundry.toml", "package-lock.json"}
	err := fs.WalkDir(contracts, "src", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".sol") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("walk contract sources: %w", err)
	}
	h := sha256.New()
	for _, name := range names {
		data, err := fs.ReadFile(contracts, name)
		if err != nil {
			return "", fmt.Errorf("read contract source %s: %w", name, err)
		}
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

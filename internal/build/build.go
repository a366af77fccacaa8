// Package build says which version of the product this binary is.
package build

import "runtime/debug"

// Version is set by the linker (-X); "devel" names a build outside the Makefile.
var Version = "devel" //nolint:gochecknoglobals // the linker can only set a variable

// Commit returns the commit the binary was built from, or "" when the build
// recorded none.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

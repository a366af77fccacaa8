package main

import (
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/cmd/internal/clidoc"
)

//go:generate go test . -run ^TestReferenceIsTrue$ -update

// reference writes the reference of every command in Markdown.
func reference(root *cobra.Command) []byte {
	return clidoc.Reference(root, "The aleph command line", "./cmd/aleph")
}

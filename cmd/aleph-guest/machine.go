//go:build machine

package main

import "context"

// bringUpOf returns what brings the machine up. The guest of machines that people
// log in to can be nothing else: the rest would double its size, which every boot
// pays for.
func (g *guest) bringUpOf() func(context.Context) error { return g.bringUp }

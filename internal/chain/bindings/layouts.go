package bindings

import (
	_ "embed" // For layouts.json.
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed layouts.json
var layouts []byte

// Layouts are the storage layouts of contracts: of each its structs, of each
// struct its members in order, as "slot:offset name type".
type Layouts map[string]map[string][]string

// StorageLayouts returns the layouts of this release.
func StorageLayouts() (Layouts, error) {
	var l Layouts
	if err := json.Unmarshal(layouts, &l); err != nil {
		return nil, fmt.Errorf("read storage layouts: %w", err)
	}
	return l, nil
}

// Breaks says what a release with the layouts next would read wrongly in the
// storage of a release with the layouts l. Members may only be added at the end,
// and where structs follow each other in an array, only in a slot that they have
// already.
func (l Layouts) Breaks(next Layouts) (problems []string) {
	for _, contract := range sorted(l) {
		for _, name := range sorted(l[contract]) {
			have, found := next[contract][name]
			if !found {
				problems = append(problems, fmt.Sprintf("%s: %s is gone", contract, name))
				continue
			}
			for i, member := range l[contract][name] {
				if i >= len(have) {
					problems = append(problems, fmt.Sprintf("%s: %s has lost %s", contract, name, member))
				} else if have[i] != member {
					problems = append(problems, fmt.Sprintf("%s: %s has %s where %s was", contract, name, have[i], member))
				}
			}
			if lastSlot(have) != lastSlot(l[contract][name]) && l.inArray(name) {
				problems = append(problems, fmt.Sprintf("%s: %s is in an array and takes another number of slots", contract, name))
			}
		}
	}
	return problems
}

// inArray reports whether structs with the name follow each other in an array.
func (l Layouts) inArray(name string) bool {
	for _, structs := range l {
		for _, members := range structs {
			for _, member := range members {
				if strings.Contains(member, "struct "+name+"[") {
					return true
				}
			}
		}
	}
	return false
}

// lastSlot returns the slot of a struct's last member.
func lastSlot(members []string) string {
	if len(members) == 0 {
		return ""
	}
	slot, _, _ := strings.Cut(members[len(members)-1], ":")
	return slot
}

// Grows says what a release with the layouts next has in storage that a release
// with the layouts l has not, if nothing breaks.
func (l Layouts) Grows(next Layouts) (news []string) {
	for _, contract := range sorted(next) {
		for _, name := range sorted(next[contract]) {
			had, found := l[contract][name]
			if !found {
				news = append(news, fmt.Sprintf("%s: %s is new", contract, name))
				continue
			}
			for _, member := range next[contract][name][min(len(had), len(next[contract][name])):] {
				news = append(news, fmt.Sprintf("%s: %s gets %s", contract, name, member))
			}
		}
	}
	return news
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

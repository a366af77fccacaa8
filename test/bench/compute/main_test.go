package main

import (
	"slices"
	"testing"
)

func TestWritesAreSortedByBackups(t *testing.T) {
	// Before, into, within, out of, and after a backup.
	const lines = "1.0 1.5\n1.9 2.1\n2.2 2.3\n2.9 3.1\n4.0 4.25\n"

	calm, busy, err := sortOut(lines, []window{{2, 3}, {9, 10}})

	if err != nil || !slices.Equal(calm, []float64{500, 250}) || len(busy) != 1 || busy[0] < 99 || busy[0] > 101 {
		t.Errorf("calm %v, busy %v, %v", calm, busy, err)
	}
	if _, _, err := sortOut("1.0\n", nil); err == nil {
		t.Error("a line without an end was taken")
	}
}

func TestPartsAreChosenByName(t *testing.T) {
	b := &bench{}
	if all, err := b.choose(""); err != nil || len(all) != len(b.parts()) {
		t.Errorf("of all: %d, %v", len(all), err)
	}
	some, err := b.choose("backup,calls")
	if err != nil || len(some) != 2 || some[0].name != "backup" || some[1].name != "calls" {
		t.Errorf("of two: %v, %v", some, err)
	}
	if _, err := b.choose("calls,nothing"); err == nil {
		t.Error("a part that is not there was chosen")
	}
}

func TestCountsReachTheirGoal(t *testing.T) {
	c := &count{}
	c.add() // Nobody waits.
	goal := c.wait(2)
	c.add()
	select {
	case <-goal:
		t.Fatal("one of two was enough")
	default:
	}
	c.add()
	<-goal
}

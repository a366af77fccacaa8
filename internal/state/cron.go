package state

import (
	"context"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// CronRun is the last time that the clock started a program here.
type CronRun struct {
	Program message.ItemHash `json:"program"`
	At      time.Time        `json:"at"` // A whole minute.
}

func cronRuns() table[CronRun] {
	return table[CronRun]{name: "cron_runs", noun: "run by the clock", key: func(c *CronRun) string { return string(c.Program) }}
}

// PutCronRun records a run.
func (tx *Tx) PutCronRun(ctx context.Context, c CronRun) error { return cronRuns().put(ctx, tx, &c) }

// RemoveCronRun forgets the runs of a program that the clock starts no longer.
func (tx *Tx) RemoveCronRun(ctx context.Context, program message.ItemHash) error {
	return cronRuns().remove(ctx, tx, string(program))
}

// CronRuns returns the last runs of all programs.
func (r reader) CronRuns(ctx context.Context) ([]CronRun, error) {
	return cronRuns().list(ctx, r, "TRUE ORDER BY pk")
}

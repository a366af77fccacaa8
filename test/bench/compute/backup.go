package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	groupBackup = "What a guest that writes notices of a backup"

	slowerAim = 20 // %
	// calmFor is how long the guest writes between backups.
	calmFor = 15 * time.Second
	// loginMax bounds one try to log in, and commandMax a command that works.
	loginMax   = 30 * time.Second
	commandMax = 4 * time.Minute
	// fillMiB are on the disk before, and in each backup: bytes that do not compress.
	fillMiB = 96
)

// The guest writes a MiB at a random place of a file, has it on the disk, and notes when
// it began and when it was through, by its own clock, again and again.
const (
	fill = `head -c %d /dev/urandom > /root/fill; head -c 1048576 /dev/urandom > /run/block; head -c 33554432 /dev/urandom > /root/load; sync; echo filled`
	// The shell is one that reads the clock without a process of its own.
	writer = `cat > /run/writer <<'END'
while [ ! -e /run/stop ]; do
  at=$((RANDOM % 32)); from=$EPOCHREALTIME
  dd if=/run/block of=/root/load bs=1M count=1 seek=$at conv=notrunc,fsync 2>/dev/null
  echo $from $EPOCHREALTIME
done
END
bash /run/writer > /run/writes 2>/dev/null < /dev/null & echo begun`
	clock = `bash -c 'echo $EPOCHREALTIME'`
	stop  = `touch /run/stop; sleep 3; cat /run/writes`
)

// window is a stretch of the guest's time, in seconds.
type window struct{ from, to float64 }

// measureBackup backs a machine up while its guest writes, several times.
func (b *bench) measureBackup(ctx context.Context) (err error) {
	w, err := b.newWorld(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	image, err := w.storeFile(ctx, b.image)
	if err != nil {
		return err
	}
	vm, err := w.instance(ctx, image)
	if err != nil {
		return err
	}
	if err := w.notify(ctx, vm); err != nil {
		return err
	}
	b.say("waiting for the machine, and filling its disk")
	if _, err := w.login(ctx, vm, "true", loginMax); err != nil {
		return err
	}
	for _, command := range []string{fmt.Sprintf(fill, fillMiB<<20), writer} {
		if _, err := w.login(ctx, vm, command, commandMax); err != nil {
			return err
		}
	}
	var windows []window
	var took []float64
	for i := range b.times(4, 1) {
		if err := sleep(ctx, calmFor); err != nil {
			return err
		}
		began := time.Now()
		win, err := w.backUp(ctx, vm)
		if err != nil {
			return fmt.Errorf("backup %d: %w", i+1, err)
		}
		windows, took = append(windows, win), append(took, time.Since(began).Seconds())
		b.say("backup %d took %.1f s", i+1, took[i])
	}
	if err := sleep(ctx, calmFor); err != nil {
		return err
	}
	lines, err := w.login(ctx, vm, stop, commandMax)
	if err != nil {
		return err
	}
	calm, busy, err := sortOut(lines, windows)
	if err != nil {
		return err
	}
	const enough = 5
	if len(calm) < enough || len(busy) < enough {
		return fmt.Errorf("%d writes fit into the backups and %d between them, want %d of each", len(busy), len(calm), enough)
	}
	b.addBackup(calm, busy, took)
	return nil
}

func (b *bench) addBackup(calm, busy, took []float64) {
	b.note(groupBackup, fmt.Sprintf("The guest writes a MiB after another at random places, each on its disk before the next, as fast as it can, while the node makes backups of the\n"+
		"disk and between them; %d MiB on it do not compress. Times are by the guest's clock, backups from the request to the archive. The aim is for the\n"+
		"throughput: the mean of the writes' times.", fillMiB))
	slower := func(of func([]float64) float64) float64 { return 100 * (of(busy)/of(calm) - 1) }
	median := func(v []float64) float64 { return measure.Quantile(v, 0.5) }
	during := b.report.Add(groupBackup, "a write, during a backup", "ms", busy...)
	during.Against("without", median(calm))
	b.report.Add(groupBackup, "a write, without a backup", "ms", calm...)
	b.report.Add(groupBackup, "throughput during a backup", "MiB/s", 1000/mean(busy)).Against("without", 1000/mean(calm))
	b.report.Add(groupBackup, "how much longer a write takes during a backup, by the means", "%", slower(mean)).Aim = slowerAim
	b.report.Add(groupBackup, "the same, by the medians", "%", slower(median))
	longest := func(v []float64) float64 { return measure.Quantile(v, 1) }
	b.report.Add(groupBackup, "the longest write, during a backup", "ms", longest(busy)).Against("without", longest(calm))
	b.report.Add(groupBackup, "a backup", "s", took...)
}

// login runs a command in a machine, trying again while it boots. most bounds each try.
func (w *world) login(ctx context.Context, vm message.ItemHash, command string, most time.Duration) (string, error) {
	path, err := w.home.SSHKey()
	if err != nil {
		return "", err
	}
	var out []byte
	var last error
	err = until(ctx, "a login", time.Second, func() (bool, error) {
		port, err := w.sshPort(ctx, vm)
		if err != nil || port == 0 {
			return false, err
		}
		limited, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		out, last = devnet.Login(limited, "127.0.0.1", port, path, command)
		return last == nil, nil
	})
	return strings.TrimSpace(string(out)), errors.Join(err, last)
}

// guestClock reads the guest's clock.
func (w *world) guestClock(ctx context.Context, vm message.ItemHash) (at float64, err error) {
	text, err := w.login(ctx, vm, clock, loginMax)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(text, &at); err != nil {
		return 0, fmt.Errorf("read the guest's clock from %q: %w", text, err)
	}
	return at, nil
}

// backUp makes a backup, deletes it, and returns when it was made.
func (w *world) backUp(ctx context.Context, vm message.ItemHash) (win window, err error) {
	if win.from, err = w.guestClock(ctx, vm); err != nil {
		return win, err
	}
	path := "/control/machine/" + string(vm) + "/backup"
	status, body, err := w.owned(ctx, http.MethodPost, path+"?skip_fsfreeze=true")
	if err := want("backup", status, body, err, http.StatusAccepted); err != nil {
		return win, err
	}
	var made struct {
		ID string `json:"backup_id"`
	}
	err = until(ctx, "a backup", 200*time.Millisecond, func() (bool, error) {
		status, body, err := w.owned(ctx, http.MethodGet, path)
		if err != nil || status == http.StatusAccepted {
			return false, err
		}
		if err := want("look at backup", status, body, nil, http.StatusOK); err != nil {
			return false, err
		}
		return true, json.Unmarshal(body, &made)
	})
	if err != nil {
		return win, err
	}
	if win.to, err = w.guestClock(ctx, vm); err != nil {
		return win, err
	}
	status, body, err = w.owned(ctx, http.MethodDelete, path+"/"+made.ID)
	return win, want("delete backup", status, body, err, http.StatusOK)
}

// sortOut tells the writes within a window, by their milliseconds, from those that
// touch none.
func sortOut(lines string, windows []window) (calm, busy []float64, err error) {
	for line := range strings.Lines(lines) {
		var from, to float64
		if _, err := fmt.Sscan(line, &from, &to); err != nil {
			return nil, nil, fmt.Errorf("read a write from %q: %w", line, err)
		}
		within, touches := false, false
		for _, w := range windows {
			within = within || from >= w.from && to <= w.to
			touches = touches || from <= w.to && to >= w.from
		}
		switch {
		case within:
			busy = append(busy, (to-from)*1000)
		case !touches:
			calm = append(calm, (to-from)*1000)
		}
	}
	return calm, busy, nil
}

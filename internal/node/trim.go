package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// trimAfter is when the start is over, also on a slow host.
const trimAfter = 10 * time.Second

// trimmer gives back, once, the memory that only the start has needed: garbage,
// and the pages of the program that hold what ran once, which is most of it.
// They come back from the page cache, one by one, if they are needed after all.
func trimmer(log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		timer := time.NewTimer(trimAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		debug.FreeOSMemory()
		if err := trimProgram(); err != nil {
			log.Debug("program not trimmed", "err", err)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// trimProgram unmaps the pages of this program's file that cannot have been
// changed.
func trimProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read mappings: %w", err)
	}
	for _, m := range programMaps(maps, exe) {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
		if errno != 0 {
			return fmt.Errorf("trim %x-%x: %w", m.start, m.end, errno)
		}
	}
	return nil
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// programMaps returns the mappings of the file exe that are private, that nobody may
// write to, and that nobody has: what the dynamic linker filled in and then protected
// is not in the file. It reads the text of /proc/PID/smaps.
func programMaps(smaps []byte, exe string) []mapping {
	var out []mapping
	var last mapping
	ours := false // The mapping whose fields come is one to trim, if it has no pages of its own.
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		// "00402000-0216c000 r-xp 00002000 fe:00 9980963    /usr/bin/aleph-node", and
		// then fields like "Anonymous:             4 kB".
		fields := strings.Fields(lines.Text())
		const path, mode = 5, 1
		switch {
		case len(fields) == 3 && fields[0] == "Anonymous:":
			if ours && fields[1] == "0" {
				out = append(out, last)
			}
			ours = false
		case len(fields) > mode && !strings.HasSuffix(fields[0], ":"):
			ours = false
			if len(fields) > path && strings.Join(fields[path:], " ") == exe && (fields[mode] == "r-xp" || fields[mode] == "r--p") {
				last, ours = parseRange(fields[0])
			}
		}
	}
	return out
}

// parseRange reads addresses like "00402000-0216c000".
func parseRange(text string) (m mapping, ok bool) {
	from, to, _ := strings.Cut(text, "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	return mapping{uintptr(start), uintptr(end)}, err1 == nil && err2 == nil && start < end
}

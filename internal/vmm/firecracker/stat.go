package firecracker

import (
	"io/fs"
	"syscall"
)

// blocksOf is how much room a file takes, in blocks of 512 bytes.
func blocksOf(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks
	}
	return 0
}

// ownerOf is whose a file is.
func ownerOf(info fs.FileInfo) (uid, gid int) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return -1, -1
}

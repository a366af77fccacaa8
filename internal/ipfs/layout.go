package ipfs

import (
	"crypto/sha256"

	"github.com/ipfs/go-cid"
)

// piece is a finished part of a DAG, as its parent links to it.
type piece struct {
	cid        cid.Cid
	size       int64 // bytes of the file in it
	cumulative int64 // bytes of its blocks, a block that occurs twice counted twice
}

func (p piece) link(name string) link { return link{cid: p.cid, name: name, size: p.cumulative} }

// layout builds the nodes above the leaves of a file, balanced as Kubo does it:
// each node has up to 174 children, which are all equally deep. It holds one
// unfinished node per level, whatever the file's length.
type layout struct {
	version Version
	levels  [][]piece
	store   func(d digest, block []byte) error
}

// add appends a leaf.
func (l *layout) add(leaf piece) error { return l.addAt(0, leaf) }

func (l *layout) addAt(level int, p piece) error {
	if level == len(l.levels) {
		l.levels = append(l.levels, make([]piece, 0, linksPerNode))
	}
	if len(l.levels[level]) == linksPerNode {
		if err := l.close(level); err != nil {
			return err
		}
	}
	l.levels[level] = append(l.levels[level], p)
	return nil
}

// close makes a node of what is at the level.
func (l *layout) close(level int) error {
	p, err := l.node(l.levels[level])
	if err != nil {
		return err
	}
	l.levels[level] = l.levels[level][:0]
	return l.addAt(level+1, p)
}

func (l *layout) node(children []piece) (piece, error) {
	links, sizes := make([]link, len(children)), make([]int64, len(children))
	p := piece{}
	for i, child := range children {
		links[i], sizes[i] = child.link(""), child.size
		p.size += child.size
		p.cumulative += child.cumulative
	}
	block := encodeFile(links, sizes)
	d := digest(sha256.Sum256(block))
	p.cid = l.version.node(d)
	p.cumulative += int64(len(block))
	return p, l.store(d, block)
}

// root finishes the file. A lone leaf is the root itself; else what is left at
// a level is wrapped once more, even if it is one child, up to the top.
func (l *layout) root() (piece, error) {
	for level := 0; ; level++ {
		if level == len(l.levels)-1 && len(l.levels[level]) == 1 {
			return l.levels[level][0], nil
		}
		if err := l.close(level); err != nil {
			return piece{}, err
		}
	}
}

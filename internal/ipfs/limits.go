package ipfs

// Limits of what is taken and made. What others send is refused beyond them
// with errs.Invalid, before it costs more than its own length in memory.
const (
	// chunkSize is how many bytes of a file are one leaf, as Kubo cuts it.
	chunkSize = 256 << 10
	// linksPerNode is how many children Kubo gives a node of a file.
	linksPerNode = 174
	// shardAt is from how many bytes of names and CIDs a directory is sharded.
	shardAt = 256 << 10

	// blockMax is the longest block; IPFS nodes do not pass on longer ones.
	blockMax = 2 << 20
	// linksMax is the most links of one node; 2 MiB have no room for many more.
	linksMax = 1 << 16
	// identityMax is the longest data that a CID may hold itself, as in Kubo.
	identityMax = 128
	// nameMax is the longest name of an entry; file systems end there too.
	nameMax = 255
	// pathMax is the longest path, as on Linux.
	pathMax = 4096
	// depthMax is how deep a DAG may be. The largest file has 5 levels, a
	// shard 8; the rest is for nested folders.
	depthMax = 128
	// fileMax is the longest file: 16 TiB, the most that ext4 has.
	fileMax = 1 << 44
	// totalMax bounds sums of sizes that others claim, far from overflow.
	totalMax = 1 << 60

	// headerMax is the longest header of a CAR, as in pyaleph.
	headerMax = 8192
	// carBlocksMax is the most blocks of one CAR: its DAG is checked in memory,
	// which takes about 100 bytes each.
	carBlocksMax = 1 << 18
	// carLinksMax is the most links of all blocks of one CAR, 16 bytes each.
	carLinksMax = 1 << 20
	// shardsMax is the most shards of one directory that are listed: enough for
	// 16 million entries.
	shardsMax = 1 << 18
	// shardDepthMax is how many levels of shards the 64 bits of a hash reach
	// with the smallest fan-out, and one for what they lead to.
	shardDepthMax = 64/3 + 1
	// treeMax is the most files and folders of one directory that is added.
	treeMax = 1 << 18
	// walkMax is the most blocks of one DAG that is exported or verified: what
	// was visited is remembered, 100 bytes each.
	walkMax = 1 << 22
)

package message

// Bounds of volumes.
const (
	MaxVolumes     = 256
	MaxVolumeMiB   = 1_953_125 // 2048 GB
	MaxEphemeral   = 1000      // MiB of an ephemeral volume
	MaxVolumeChars = 256       // of a comment, a mount point or a name
)

// VolumeKind tells the three kinds of volumes apart.
type VolumeKind string

// The kinds of volumes.
const (
	Immutable  VolumeKind = "immutable"
	Ephemeral  VolumeKind = "ephemeral"
	Persistent VolumeKind = "persistent"
)

// Volume is a disk of a machine besides its root. Which fields count depends
// on Kind. See section 1.8 of the protocol.
type Volume struct {
	Kind        VolumeKind
	Comment     *string
	Mount       *string
	Ref         ItemHash // Immutable: a STORE message
	UseLatest   bool     // Immutable
	SizeMiB     int64    // Ephemeral, Persistent
	Parent      *Parent  // Persistent
	Persistence *string  // Persistent: host or store
	Name        *string  // Persistent
}

// Parent is the file that a volume starts from: Ref names a STORE message.
type Parent struct {
	Ref       ItemHash `json:"ref"`
	UseLatest bool     `json:"use_latest"` // follow later versions of the file
}

func readParent(n node) Parent {
	o := n.object()
	return Parent{Ref: o.need("ref").hash(), UseLatest: o.maybe("use_latest").boolean(true)}
}

func writeParent(w *writer, p *Parent) {
	w.open()
	w.text("ref", string(p.Ref))
	w.boolean("use_latest", p.UseLatest)
	w.close()
}

// readVolume reads the first kind that fits. One with nothing but a small size
// is ephemeral.
func readVolume(n node) Volume {
	switch o := n.object(); {
	case o.has("ref"):
		return readImmutable(n)
	case o.has("ephemeral"):
		return readEphemeral(n)
	case o.has("parent") || o.has("persistence") || o.has("name"):
		return readPersistent(n)
	default:
		size := o.maybe("size_mib")
		if text, ok := size.digits(); ok && len(text) <= 4 && size.integer(0, MaxVolumeMiB) <= MaxEphemeral {
			return readEphemeral(n)
		}
		return readPersistent(n)
	}
}

func readImmutable(n node) Volume {
	o := n.object("comment", "mount", "ref", "use_latest")
	v := readLabels(o, Immutable)
	v.Ref, v.UseLatest = o.need("ref").hash(), o.maybe("use_latest").boolean(true)
	return v
}

func readEphemeral(n node) Volume {
	o := n.object("comment", "mount", "ephemeral", "size_mib")
	v := readLabels(o, Ephemeral)
	v.SizeMiB = o.need("size_mib").strictInteger(1, MaxEphemeral)
	if e := o.maybe("ephemeral"); e.d.err == nil && !e.absent() && e.kind() != kindTrue {
		e.fail("is %.80s; leave it out of a persistent volume", e.raw())
	}
	return v
}

func readPersistent(n node) Volume {
	o := n.object("comment", "mount", "parent", "persistence", "name", "size_mib")
	v := readLabels(o, Persistent)
	v.SizeMiB = o.need("size_mib").strictInteger(1, MaxVolumeMiB)
	if parent := o.maybe("parent"); !parent.skip() {
		p := readParent(parent)
		v.Parent = &p
	}
	v.Persistence = o.maybe("persistence").wordOrNull("host", "store")
	v.Name = o.maybe("name").textOrNull(MaxVolumeChars)
	return v
}

// readLabels reads what every kind has.
func readLabels(o object, k VolumeKind) Volume {
	return Volume{
		Kind: k, Comment: o.maybe("comment").textOrNull(MaxVolumeChars),
		Mount: o.maybe("mount").textOrNull(MaxVolumeChars),
	}
}

func writeVolume(w *writer, v *Volume) {
	w.open()
	textOrNull(w, "comment", v.Comment)
	textOrNull(w, "mount", v.Mount)
	switch v.Kind {
	case Immutable:
		w.text("ref", string(v.Ref))
		w.boolean("use_latest", v.UseLatest)
	case Ephemeral:
		w.boolean("ephemeral", true)
		w.integer("size_mib", v.SizeMiB)
	case Persistent:
		objectOrNull(w, "parent", v.Parent, writeParent)
		if !w.model && v.Parent == nil && v.Persistence == nil && v.Name == nil {
			w.always("parent") // Without one of its keys it would be read as ephemeral.
		}
		textOrNull(w, "persistence", v.Persistence)
		textOrNull(w, "name", v.Name)
		w.integer("size_mib", v.SizeMiB)
	}
	w.close()
}

// MarshalJSON implements json.Marshaler with the fields of the volume's kind.
func (v Volume) MarshalJSON() ([]byte, error) {
	return wire(func(w *writer) { writeVolume(w, &v) })
}

package message

// MaxSubscription bounds the keys of one subscription of a program.
const MaxSubscription = 32

const machineFunction = "vm-function"

// Program is the content of a PROGRAM message: a function that runs when it is
// asked for, or for good. See section 1.9 of the protocol.
type Program struct {
	Executable
	Environment FunctionEnvironment
	Code        ProgramCode
	Runtime     ProgramRuntime
	Data        *ProgramData
	Export      *ProgramExport
	On          Triggers
}

// FunctionEnvironment says what a function may reach.
type FunctionEnvironment struct {
	Reproducible bool
	Internet     bool
	AlephAPI     bool
	SharedCache  bool
}

// ProgramCode is the program itself: Ref names a STORE message.
type ProgramCode struct {
	Encoding   string // plain, zip or squashfs
	Entrypoint string
	Ref        ItemHash
	Interface  *string // asgi or binary
	Args       []string
	UseLatest  bool // follow later versions of the file
}

// ProgramRuntime is the root disk that a function runs on.
type ProgramRuntime struct {
	Ref       ItemHash
	UseLatest bool
	Comment   string
}

// ProgramData is a file that a function works on.
type ProgramData struct {
	Encoding  string
	Mount     string
	Ref       *ItemHash
	UseLatest *bool
}

// ProgramExport says what to keep of a function's work.
type ProgramExport struct {
	Encoding string
	Mount    string
}

// Triggers says what starts a function.
type Triggers struct {
	HTTP       bool
	Message    []Metadata // filters of messages, with keys of any kind
	Persistent *bool      // runs for good
}

// IsPersistent reports whether the program runs for good.
func (p *Program) IsPersistent() bool { return p.On.Persistent != nil && *p.On.Persistent }

// ParseProgram decodes and checks the content of a PROGRAM message. The error
// is always a *RejectError.
func ParseProgram(raw []byte) (*Program, error) {
	o, e, err := readExecutable(raw, "type", "code", "runtime", "data", "export", "on")
	if err != nil {
		return nil, err
	}
	o.need("type").word(machineFunction)
	p := &Program{
		Executable: e, Environment: readFunctionEnvironment(o.need("environment")), Code: readCode(o.need("code")),
		Runtime: readRuntime(o.need("runtime")), Data: readData(o.maybe("data")), Export: readExport(o.maybe("export")),
		On: readTriggers(o.need("on")),
	}
	if o.d.err != nil {
		return nil, o.d.err
	}
	return p, nil
}

func readFunctionEnvironment(n node) FunctionEnvironment {
	o := n.object()
	return FunctionEnvironment{
		Reproducible: o.maybe("reproducible").boolean(false), Internet: o.maybe("internet").boolean(false),
		AlephAPI: o.maybe("aleph_api").boolean(false), SharedCache: o.maybe("shared_cache").boolean(false),
	}
}

// encoding reads how a file is packed.
func (n node) encoding() string { return n.word("plain", "zip", "squashfs") }

func readCode(n node) ProgramCode {
	o := n.object()
	return ProgramCode{
		Encoding: o.need("encoding").encoding(), Entrypoint: o.need("entrypoint").text(0, anyLength),
		Ref: o.need("ref").hash(), Interface: o.maybe("interface").wordOrNull("asgi", "binary"),
		Args: o.maybe("args").texts(anyLength, anyLength), UseLatest: o.maybe("use_latest").boolean(false),
	}
}

func readRuntime(n node) ProgramRuntime {
	o := n.object()
	return ProgramRuntime{
		Ref: o.need("ref").hash(), UseLatest: o.maybe("use_latest").boolean(true),
		Comment: o.need("comment").text(0, anyLength),
	}
}

func readData(n node) *ProgramData {
	if n.skip() {
		return nil
	}
	o := n.object()
	d := &ProgramData{
		Encoding: o.need("encoding").encoding(), Mount: o.need("mount").text(0, anyLength),
		Ref: o.maybe("ref").hashOrNull(), UseLatest: o.maybe("use_latest").booleanOrNull(),
	}
	if o.maybe("use_latest").absent() {
		d.UseLatest = new(bool)
	}
	return d
}

func readExport(n node) *ProgramExport {
	if n.skip() {
		return nil
	}
	o := n.object()
	return &ProgramExport{Encoding: o.need("encoding").encoding(), Mount: o.need("mount").text(0, anyLength)}
}

func readTriggers(n node) Triggers {
	o := n.object("http", "message", "persistent")
	t := Triggers{HTTP: o.need("http").boolean(false), Persistent: o.maybe("persistent").booleanOrNull()}
	messages := o.maybe("message")
	nodes := messages.list(anyLength)
	if messages.skip() {
		return t
	}
	t.Message = make([]Metadata, len(nodes))
	for i, m := range nodes {
		m.object()
		t.Message[i] = m.dict(MaxSubscription)
	}
	return t
}

func (p *Program) write(w *writer) {
	p.Executable.write(w, func() {
		w.key("environment")
		p.Environment.write(w)
	})
	w.text("type", machineFunction)
	w.key("code")
	p.Code.write(w)
	w.key("runtime")
	w.open()
	w.text("ref", string(p.Runtime.Ref))
	w.boolean("use_latest", p.Runtime.UseLatest)
	w.text("comment", p.Runtime.Comment)
	w.close()
	objectOrNull(w, "data", p.Data, writeData)
	objectOrNull(w, "export", p.Export, writeExport)
	w.key("on")
	p.On.write(w)
	w.close()
}

func (e *FunctionEnvironment) write(w *writer) {
	w.open()
	w.boolean("reproducible", e.Reproducible)
	w.boolean("internet", e.Internet)
	w.boolean("aleph_api", e.AlephAPI)
	w.boolean("shared_cache", e.SharedCache)
	w.close()
}

func (c *ProgramCode) write(w *writer) {
	w.open()
	w.text("encoding", c.Encoding)
	w.text("entrypoint", c.Entrypoint)
	w.text("ref", string(c.Ref))
	textOrNull(w, "interface", c.Interface)
	texts(w, "args", c.Args)
	w.boolean("use_latest", c.UseLatest)
	w.close()
}

func writeData(w *writer, d *ProgramData) {
	w.open()
	w.text("encoding", d.Encoding)
	w.text("mount", d.Mount)
	textOrNull(w, "ref", d.Ref)
	switch {
	case d.UseLatest != nil:
		w.boolean("use_latest", *d.UseLatest)
	default:
		w.always("use_latest")
	}
	w.close()
}

func writeExport(w *writer, e *ProgramExport) {
	w.open()
	w.text("encoding", e.Encoding)
	w.text("mount", e.Mount)
	w.close()
}

func (t *Triggers) write(w *writer) {
	w.open()
	w.boolean("http", t.HTTP)
	if t.Message == nil {
		w.null("message")
	} else {
		w.key("message")
		w.buf = append(w.buf, '[')
		for _, m := range t.Message {
			w.next()
			w.members(m)
		}
		w.buf = append(w.buf, ']')
	}
	if t.Persistent == nil {
		w.null("persistent")
	} else {
		w.boolean("persistent", *t.Persistent)
	}
	w.close()
}

// MarshalJSON implements json.Marshaler with the form that clients send: what
// is not set is left out.
func (p Program) MarshalJSON() ([]byte, error) { return wire(p.write) }

// UnmarshalJSON implements json.Unmarshaler with ParseProgram.
func (p *Program) UnmarshalJSON(raw []byte) error { return into(p, raw, ParseProgram) }

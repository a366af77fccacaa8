package message

import "encoding/json"

// Details returns what nodes answer about a verdict: {"errors": [...]}, or null
// if there is nothing to say but the code. See section 4.3 of the protocol.
func (e *RejectError) Details() json.RawMessage {
	w := new(writer)
	switch {
	case e.Errors != nil:
		w.open()
		w.free("errors", e.Errors)
		w.close()
	case e.Detail != "":
		w.open()
		texts(w, "errors", []string{e.Detail})
		w.close()
	default:
		return json.RawMessage("null")
	}
	return w.buf
}

// rejectWith returns a verdict whose errors are not texts.
func rejectWith(code Code, detail string, write func(w *writer)) error {
	w := new(writer)
	w.buf = append(w.buf, '[')
	write(w)
	w.buf = append(w.buf, ']')
	return &RejectError{Code: code, Detail: detail, Errors: w.buf}
}

// rejectFields is rejectWith for one object of texts, given as keys and values.
func rejectFields(code Code, detail string, pairs ...string) error {
	return rejectWith(code, detail, func(w *writer) {
		w.open()
		for i := 0; i < len(pairs); i += 2 {
			w.text(pairs[i], pairs[i+1])
		}
		w.close()
	})
}

// RejectSender refuses a message of a sender who may not write for the owner.
func RejectSender(sender, owner string) error {
	return Reject(CodePermissionDenied, "Sender %s is not authorized to post on behalf of address %s", sender, owner)
}

// RejectForgetter refuses a FORGET of a message that its sender could not have
// written.
func RejectForgetter(sender string, target ItemHash, owner string) error {
	return Reject(CodePermissionDenied, "Sender %s is not authorized to forget message %s owned by %s: "+
		"the sender could not have created this target under the owner's security aggregate", sender, target, owner)
}

// RejectFile says that a file is not here: of a message's content
// (CodeContentUnavailable) or of a STORE (CodeFileUnavailable).
func RejectFile(code Code, file ItemHash, reason string) error {
	if reason != "" {
		return Reject(code, "File not found: %s (%s)", file, reason)
	}
	return Reject(code, "File not found: %s", file)
}

// RejectBalance says how many tokens are missing, in decimals.
func RejectBalance(required, balance string) error {
	return rejectFields(CodeBalanceInsufficient, required+" tokens must be held, there are "+balance,
		"required_balance", required, "account_balance", balance)
}

// RejectCredits says how many credits are missing to run for one day.
func RejectCredits(required, balance string) error {
	return rejectWith(CodeCreditInsufficient, required+" credits are needed for a day, there are "+balance, func(w *writer) {
		w.open()
		w.text("required_credits", required)
		w.text("account_credits", balance)
		w.integer("min_runtime_days", 1)
		w.close()
	})
}

// RejectVolumes names the STORE messages that are not known.
func RejectVolumes(refs []ItemHash) error {
	detail := "no STORE message is known by the refs"
	for _, ref := range refs {
		detail += " " + string(ref)
	}
	return rejectWith(CodeVMVolumeNotFound, detail, func(w *writer) {
		for _, ref := range refs {
			w.next()
			w.buf = appendText(w.buf, string(ref))
		}
	})
}

// SmallVolume is a volume that cannot hold the file it starts from.
type SmallVolume struct {
	Name        string
	Ref         ItemHash // of the parent, a STORE message
	File        ItemHash // of the parent
	FileBytes   int64
	VolumeBytes int64
}

// RejectSmallVolume says which volume is too small, and by how much.
func RejectSmallVolume(v SmallVolume) error {
	return rejectWith(CodeVMVolumeTooSmall, "volume "+v.Name+" is smaller than its parent "+string(v.Ref), func(w *writer) {
		w.open()
		w.text("volume_name", v.Name)
		w.text("parent_ref", string(v.Ref))
		w.text("parent_file", string(v.File))
		w.integer("parent_size", v.FileBytes)
		w.integer("volume_size", v.VolumeBytes)
		w.close()
	})
}

// RejectForgetTarget says which message is not here to be forgotten.
func RejectForgetTarget(target ItemHash) error {
	return rejectFields(CodeForgetTargetNotFound, "message "+string(target)+" is not here", "message", string(target))
}

// RejectForgetAggregate says which aggregate is not here to be forgotten.
func RejectForgetAggregate(key string) error {
	return rejectFields(CodeForgetTargetNotFound, "aggregate "+key+" is not here", "aggregate", key)
}

// RejectForgetForget refuses a FORGET of a FORGET.
func RejectForgetForget(target ItemHash) error {
	return rejectFields(CodeForgetForget, "message "+string(target)+" is a FORGET", "message", string(target))
}

// RejectUsedFile refuses a FORGET of a file that a machine uses.
func RejectUsedFile(file, machine ItemHash) error {
	return Reject(CodeForgetNotAllowed, "File %s used on vm %s", file, machine)
}

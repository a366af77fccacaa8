package operator_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

type backupVectors struct {
	ID        string           `json:"backup_id"`
	Expires   int64            `json:"expires"`
	Secret    string           `json:"secret_token"`
	Signature string           `json:"signature"`
	VM        message.ItemHash `json:"vm_hash"`
}

func TestLinksOfBackups(t *testing.T) {
	v := readVectors[backupVectors](t, "backup.json")
	if got := operator.SignBackup([]byte(v.Secret), v.ID, v.VM, v.Expires); got != v.Signature {
		t.Errorf("signature %s, want %s", got, v.Signature)
	}
	expires, now := strconv.FormatInt(v.Expires, 10), time.Unix(v.Expires-1, 0)
	tests := []struct {
		name                   string
		id, signature, expires string
		now                    time.Time
		want                   string // "" means valid.
	}{
		{"as signed", v.ID, v.Signature, expires, now, ""},
		{"path", v.ID + "/../x", v.Signature, expires, now, "Invalid backup_id"},
		{"no id", "", v.Signature, expires, now, "Invalid backup_id"},
		{"another machine's", "cafe" + v.ID[4:], v.Signature, expires, now, "Backup does not belong to this VM"},
		{"not signed", v.ID, "", expires, now, "Missing signature or expires parameter"},
		{"no time", v.ID, v.Signature, "", now, "Missing signature or expires parameter"},
		{"time not a number", v.ID, v.Signature, "x", now, "Invalid expires parameter"},
		{"expired", v.ID, v.Signature, expires, now.Add(3 * time.Second), "Download link has expired"},
		{"longer than signed", v.ID, v.Signature, expires + "0", now, "Invalid signature"},
		{"another backup", v.ID + "1", v.Signature, expires, now, "Invalid signature"},
	}
	for _, tt := range tests {
		got := ""
		if err := operator.VerifyBackup([]byte(v.Secret), tt.id, v.VM, tt.signature, tt.expires, tt.now); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

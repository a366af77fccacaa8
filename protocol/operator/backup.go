package operator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// SignBackup returns the signature of a link from which a backup of a machine may
// be downloaded by anybody until it expires, a Unix time in seconds. The secret
// is the node's own.
func SignBackup(secret []byte, id string, vm message.ItemHash, expires int64) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s:%s:%d", id, vm, expires)
	return hex.EncodeToString(mac.Sum(nil))
}

// VerifyBackup checks a link: signature and expires are its parameters. The error
// is always a *Refusal.
func VerifyBackup(secret []byte, id string, vm message.ItemHash, signature, expires string, now time.Time) error {
	if id == "" || strings.ContainsAny(id, `/\`) || strings.Contains(id, "..") {
		return malformed("Invalid backup_id")
	}
	if !strings.HasPrefix(id, string(vm)+"-") {
		return refused("Backup does not belong to this VM")
	}
	if signature == "" || expires == "" {
		return refused("Missing signature or expires parameter")
	}
	until, err := strconv.ParseInt(expires, 10, 64)
	switch {
	case err != nil:
		return malformed("Invalid expires parameter")
	case now.After(time.Unix(until, 0)):
		return refused("Download link has expired")
	case !hmac.Equal([]byte(signature), []byte(SignBackup(secret, id, vm, until))):
		return refused("Invalid signature")
	}
	return nil
}

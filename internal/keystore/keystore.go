// Package keystore holds the two keys of a node: the identity, which names it
// in the peer-to-peer network, and the signer, which signs its acceptances,
// its capacity and its transactions. The owner of a node, who holds its stake,
// has another key that is never here.
//
// A key is a file of 64 hex digits that nobody but its user may read.
package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	identityFile = "identity.key"
	signerFile   = "signer.key"
	// keyBytes is the length of both kinds of secret.
	keyBytes = 32
	// fileMax bounds what is read of a key file.
	fileMax = 4096
	// othersMask are the permissions that a key file must not have.
	othersMask = 0o077
)

// Keys are the keys of a node.
type Keys struct {
	Identity ed25519.PrivateKey
	Signer   *ecdsa.PrivateKey
}

// Open reads the keys of the node. A path that is empty stands for a file in
// dir, which is made, with a new key, if it is not there; a path that is given
// must lead to a key.
func Open(dir, identityPath, signerPath string) (*Keys, error) {
	seed, err := secret(dir, identityPath, identityFile)
	if err != nil {
		return nil, fmt.Errorf("read identity key: %w", err)
	}
	raw, err := secret(dir, signerPath, signerFile)
	if err != nil {
		return nil, fmt.Errorf("read signer key: %w", err)
	}
	signer, err := crypto.ToECDSA(raw)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read signer key: the number in %s is no key: %w", pathOf(dir, signerPath, signerFile), err)
	}
	return &Keys{Identity: ed25519.NewKeyFromSeed(seed), Signer: signer}, nil
}

// Own reads the key in the file of that name in dir, which is made, with a new key, if
// it is not there.
func Own(dir, name string) ([]byte, error) {
	raw, err := secret(dir, "", name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return raw, nil
}

func pathOf(dir, path, name string) string {
	if path != "" {
		return path
	}
	return filepath.Join(dir, name)
}

// secret reads a key file, or makes the one in dir.
func secret(dir, path, name string) ([]byte, error) {
	raw, err := Read(pathOf(dir, path, name))
	if path != "" || !errors.Is(err, fs.ErrNotExist) {
		return raw, err
	}
	raw = make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	err = write(dir, name, raw)
	if errors.Is(err, fs.ErrExist) { // Another process was faster.
		return Read(pathOf(dir, path, name))
	}
	return raw, err
}

// Read returns the 32 bytes of a key file. An error never holds what is in it.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errs.New(errs.Invalid, "there is no key file %s; make it, or correct its path: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, errs.New(errs.Denied, "%s may not be read by this user; give it to the user that runs the node", path)
	case err != nil:
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "%s is no file; correct the path of the key", path)
	}
	if info.Mode().Perm()&othersMask != 0 {
		return nil, errs.New(errs.Invalid, "%s can be read by other users: run chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, fileMax))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return parse(path, text)
}

// parse reads 64 hex digits, with or without 0x.
func parse(path string, text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(bytes.TrimSpace(text), []byte("0x"))
	raw := make([]byte, keyBytes)
	if len(text) != hex.EncodedLen(keyBytes) {
		return nil, errs.New(errs.Invalid, "%s holds %d characters, want 64 hex digits", path, len(text))
	}
	if _, err := hex.Decode(raw, text); err != nil {
		// The library's error would quote a byte of the key.
		return nil, errs.New(errs.Invalid, "%s holds other characters than 64 hex digits", path)
	}
	return raw, nil
}

// write makes a key file, whole or not at all, and never in place of another.
func write(dir, name string, raw []byte) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of keys: %w", err)
	}
	f, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make key file: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(hex.EncodeToString(raw) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	if err := os.Link(f.Name(), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("put key file in place: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes a new name last: a node whose key is lost is another node.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory of keys: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory of keys: %w", err)
	}
	return nil
}

package main

import (
	"bufio"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/charmbracelet/x/term"
	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

const (
	keyFileMax  = 64 << 10 // bytes of a key or password file
	passwordMin = 8        // characters of a password that is made here
)

// stored is an account on disk: its name and address are readable without the
// password.
type stored struct {
	Name    string         `json:"name"`
	Address common.Address `json:"address"`
	Path    string         `json:"path"`
}

func checkName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`).MatchString(name) {
		return usagef("account name %q: want 1 to 32 of a-z, 0-9, - and _, beginning with a letter or digit", name)
	}
	return nil
}

func (a *app) keyPath(name string) (string, error) {
	home, err := a.homeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, "accounts", name+".json"), nil
}

// storedAccounts lists the accounts on disk by name.
func (a *app) storedAccounts() ([]stored, error) {
	home, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(home, "accounts")
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	accounts := []stored{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		s, err := readStored(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, s)
	}
	return accounts, nil
}

func readStored(path string) (stored, error) {
	name := strings.TrimSuffix(filepath.Base(path), ".json")
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stored{}, fmt.Errorf("account %q does not exist; 'aleph account create %s' makes it", name, name)
	}
	if err != nil {
		return stored{}, fmt.Errorf("read account %s: %w", name, err)
	}
	var file struct{ Address string }
	if err := json.Unmarshal(raw, &file); err != nil || !common.IsHexAddress(file.Address) {
		return stored{}, fmt.Errorf("account %s: %s is not a key file (web3 secret storage v3)", name, path)
	}
	return stored{Name: name, Address: common.HexToAddress(file.Address), Path: path}, nil
}

// chosen returns the account to act as: --account, or the only one there is.
func (a *app) chosen() (stored, error) {
	if a.account != "" {
		if err := checkName(a.account); err != nil {
			return stored{}, err
		}
		path, err := a.keyPath(a.account)
		if err != nil {
			return stored{}, err
		}
		return readStored(path)
	}
	all, err := a.storedAccounts()
	switch {
	case err != nil:
		return stored{}, err
	case len(all) == 0:
		return stored{}, fmt.Errorf("there is no account yet; 'aleph account create NAME' makes one")
	case len(all) > 1:
		return stored{}, usagef("there are %d accounts; choose one with --account NAME", len(all))
	}
	return all[0], nil
}

// unlock asks for the password of the chosen account and opens it.
func (a *app) unlock() (*aleph.Account, error) {
	s, err := a.chosen()
	if err != nil {
		return nil, err
	}
	raw, err := readSmall(s.Path)
	if err != nil {
		return nil, fmt.Errorf("read account %s: %w", s.Name, err)
	}
	password, err := a.password("Password of account " + s.Name + ": ")
	if err != nil {
		return nil, err
	}
	key, err := keystore.DecryptKey(raw, password)
	if errors.Is(err, keystore.ErrDecrypt) {
		return nil, fmt.Errorf("the password does not open account %s", s.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("open account %s: %w", s.Name, err)
	}
	return aleph.NewAccount(key.PrivateKey), nil
}

// store writes a new key file; an existing one is never replaced.
func (a *app) store(name string, key *ecdsa.PrivateKey) (stored, error) {
	if err := checkName(name); err != nil {
		return stored{}, err
	}
	path, err := a.keyPath(name)
	if err != nil {
		return stored{}, err
	}
	if _, err := os.Lstat(path); err == nil {
		return stored{}, fmt.Errorf("account %s exists already (%s); choose another name", name, path)
	}
	password, err := a.newPassword(name)
	if err != nil {
		return stored{}, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return stored{}, fmt.Errorf("make key id: %w", err)
	}
	address := crypto.PubkeyToAddress(key.PublicKey)
	raw, err := keystore.EncryptKey(&keystore.Key{Id: id, Address: address, PrivateKey: key}, password, a.scryptN, a.scryptP)
	if err != nil {
		return stored{}, fmt.Errorf("encrypt key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return stored{}, fmt.Errorf("make account directory: %w", err)
	}
	if err := writeNew(path, raw); err != nil {
		return stored{}, fmt.Errorf("write account %s: %w", name, err)
	}
	return stored{Name: name, Address: address, Path: path}, nil
}

// writeNew writes a file that must not exist, for its owner only.
func writeNew(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

// newPassword returns the password for a new account, asked for twice.
func (a *app) newPassword(name string) (string, error) {
	password, err := a.password("New password for account " + name + ": ")
	if err != nil {
		return "", err
	}
	if len(password) < passwordMin {
		return "", fmt.Errorf("the password has %d characters, want at least %d", len(password), passwordMin)
	}
	if a.passwordFile != "" {
		return password, nil
	}
	again, err := a.password("Again: ")
	if err != nil {
		return "", err
	}
	if again != password {
		return "", fmt.Errorf("the two passwords differ; nothing was stored")
	}
	return password, nil
}

// password reads the password file, or asks at the terminal.
func (a *app) password(prompt string) (string, error) {
	if a.passwordFile != "" {
		raw, err := readSmall(a.passwordFile)
		if err != nil {
			return "", fmt.Errorf("read password file: %w", err)
		}
		return strings.TrimRight(string(raw), "\r\n"), nil
	}
	terminal, ok := a.in.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(terminal.Fd()) {
		return "", fmt.Errorf("a password is needed and this is no terminal; give --password-file FILE or set ALEPH_PASSWORD_FILE")
	}
	fmt.Fprint(a.err, prompt)
	raw, err := term.ReadPassword(terminal.Fd())
	fmt.Fprintln(a.err)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return string(raw), nil
}

// readSmall reads a file that has no reason to be big.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, keyFileMax+1))
	if err == nil && len(raw) > keyFileMax {
		err = fmt.Errorf("%s has more than %d bytes", path, keyFileMax)
	}
	return raw, err
}

// confirm asks a yes-or-no question; anything but y or yes is no.
func (a *app) confirm(question string) (bool, error) {
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(a.in, 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read answer: %w", err)
	}
	if line == "" {
		fmt.Fprintln(a.err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph/alephtest"
)

var update = flag.Bool("update", false, "rewrite docs/user/cli.md")

// newApp returns an app whose key files cost little to open.
func newApp(in io.Reader, out, errs io.Writer, env func(string) string) *app {
	return &app{in: in, out: out, err: errs, env: env, scryptN: keystore.LightScryptN, scryptP: keystore.LightScryptP}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"aleph": func() {
			os.Exit(run(context.Background(), newApp(os.Stdin, os.Stdout, os.Stderr, os.Getenv), os.Args[1:]))
		},
		"ssh": func() { fmt.Println("ssh", strings.Join(os.Args[1:], " ")) },
	})
}

type nodeKey struct{}

// TestScripts runs the commands as a user does, against a node in memory and a
// real chain in memory.
func TestScripts(t *testing.T) {
	chain := alephtest.StartChain(t)
	commands := worldCommands(t)
	maps.Copy(commands, map[string]func(*testscript.TestScript, bool, []string){
		"grant": grant, "steps": steps, "isjson": isJSON, "unready": unready,
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			node := alephtest.New()
			node.Relay(chain)
			env.Defer(node.Close)
			env.Values[nodeKey{}], env.Values[worldKey{}] = node, &world{}
			for k, v := range map[string]string{
				"ALEPH_NODE": node.URL, "ALEPH_RPC": chain.URL, "ALEPH_HOME": filepath.Join(env.WorkDir, "home"),
				"ALEPH_PASSWORD_FILE": filepath.Join(env.WorkDir, "password"),
			} {
				env.Setenv(k, v)
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "password"), []byte("correct horse\n"), 0o600)
		},
		Cmds: commands,
	})
}

// grant gives an address an allowance and a balance of some ALEPH.
func grant(ts *testscript.TestScript, _ bool, args []string) {
	wei := amount(ts, args[1])
	ts.Value(nodeKey{}).(*alephtest.Node).SetAccount(common.HexToAddress(args[0]), func(v *aleph.AccountView) {
		v.Allowance, v.TokenBalance = wei, wei
	})
}

// steps sets the reason and the statuses of jobs.
func steps(ts *testscript.TestScript, _ bool, args []string) {
	var path []aleph.JobStatus
	for _, s := range args[1:] {
		path = append(path, aleph.JobStatus(s))
	}
	ts.Value(nodeKey{}).(*alephtest.Node).Steps(args[0], path...)
}

// unready closes the node.
func unready(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Value(nodeKey{}).(*alephtest.Node).Close()
}

// isJSON checks that standard output is one JSON document, and sets variables
// from it: NAME=path.to.field.
func isJSON(ts *testscript.TestScript, _ bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var v any
	ts.Check(dec.Decode(&v))
	if _, err := dec.Token(); err != io.EOF {
		ts.Fatalf("standard output holds more than one JSON document")
	}
	for _, arg := range args {
		name, path, _ := strings.Cut(arg, "=")
		field := v
		for key := range strings.SplitSeq(path, ".") {
			switch x := field.(type) {
			case map[string]any:
				field = x[key]
			case []any:
				field = x[0]
			}
		}
		if field == nil {
			ts.Fatalf("no %s in %s", path, ts.ReadFile("stdout"))
		}
		ts.Setenv(name, fmt.Sprint(field))
	}
}

// TestEveryCommandIsTestedWithJSON looks for each command, with --json, in the
// scripts.
func TestEveryCommandIsTestedWithJSON(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(raw), "\n")...)
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			walk(c)
		}
		if cmd.HasSubCommands() || cmd.Hidden {
			return
		}
		if !slices.ContainsFunc(lines, func(l string) bool {
			bare := strings.Replace(l, " --json", "", 1)
			return bare != l && strings.HasPrefix(bare+" ", "exec "+cmd.CommandPath()+" ")
		}) {
			t.Errorf("no script runs %s --json", cmd.CommandPath())
		}
	}
	walk(newRoot(newApp(nil, io.Discard, io.Discard, func(string) string { return "" })))
}

func TestConsolesAreLinesOfJSON(t *testing.T) {
	long := strings.Repeat("x", lineMax-1) + "\u00e9y"
	tests := []struct {
		name   string
		writes []string
		want   []string // the texts
	}{
		{"nothing", nil, nil},
		{"lines", []string{"a\nb\r\n"}, []string{"a", "b"}},
		{"a line in parts", []string{"a", "b", "\nc\n"}, []string{"ab", "c"}},
		{"no end", []string{"a\nlogin: "}, []string{"a", "login: "}},
		{"empty lines", []string{"\n\n"}, []string{"", ""}},
		{"not only text", []string{"<\x1b[0m>\xff\n"}, []string{"<\x1b[0m>\ufffd"}},
		{"a long line", []string{long + "\n"}, []string{long[:lineMax-1], "\u00e9y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			l := &jsonLines{to: &out}
			for _, w := range tt.writes {
				if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("wrote %d of %d bytes, %v", n, len(w), err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for text := range strings.Lines(out.String()) {
				var line consoleLine
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
				got = append(got, line.Text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("texts (-want +got):\n%s", diff)
			}
		})
	}
	l := &jsonLines{to: &bytes.Buffer{}}
	if _, err := io.WriteString(l, "now\nlater"); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(l.to); got != "{\"text\":\"now\"}\n" {
		t.Errorf("before the end of the second line %q, want the first", got)
	}
}

// TestReferenceIsTrue compares docs/user/cli.md with the commands; -update
// rewrites it.
func TestReferenceIsTrue(t *testing.T) {
	const path = "../../docs/user/cli.md"
	want := reference(newRoot(newApp(nil, io.Discard, io.Discard, func(string) string { return "" })))
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the commands say; run 'go generate ./cmd/aleph'", path)
	}
}

// runLine runs one command line in memory.
func runLine(t *testing.T, in string, env map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), newApp(strings.NewReader(in), &o, &e, func(k string) string { return env[k] }), args)
	return code, o.String(), e.String()
}

func TestWrongCommandLinesExitWithTwoAndSayWhere(t *testing.T) {
	home := map[string]string{"ALEPH_HOME": t.TempDir()}
	const image = "6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595"
	dir := t.TempDir()
	for name, text := range map[string]string{"private": "-----BEGIN OPENSSH PRIVATE KEY-----\n", "junk": "hello\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		args string
		want string
	}{
		{"instnce", `did you mean "instance"?`},
		{"instance creat", `did you mean "create"?`},
		{"--colour", "unknown flag: --colour"},
		{"account create", "accepts 1 arg(s)"},
		{"account create Bad!", `account name "Bad!"`},
		{"account import x", "--key-file"},
		{"account list more", "unknown command"},
		{"account fund --eth lots", "--eth"},
		{"account fund --tokens -1", "--tokens"},
		{"allowance set much", "12.5"},
		{"node show one", "not a number"},
		{"node drain", "accepts 1 arg(s)"},
		{"node drain two", "not a number"},
		{"node exit -- -1", "not a number"},
		{"node unstake 1", "accepts 2 arg(s)"},
		{"node list --node localhost", "http://127.0.0.1:4024"},
		{"instance create", "--image"},
		{"instance create --image x", "--image: item hash"},
		{"instance create --image " + image + " --port 0", `port "0"`},
		{"instance create --image " + image + " --port 80/sctp", `port "80/sctp"`},
		{"instance create --image " + image + " --env X", "NAME=VALUE"},
		{"instance create --image " + image + " --ssh-key " + dir + "/private", "private.pub"},
		{"instance create --image " + image + " --ssh-key " + dir + "/junk", "does not hold a public SSH key"},
		{"instance show xyz", "first 4 digits"},
		{"completion tcsh", "want one of bash, zsh, fish"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			code, out, errs := runLine(t, "", home, strings.Fields(tt.args)...)
			if code != exitUsage || out != "" || !strings.Contains(errs, tt.want) || !strings.Contains(errs, "--help") {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d, no output, %q and a pointer to the help", code, out, errs, exitUsage, tt.want)
			}
		})
	}
}

func TestEndOfAnInstance(t *testing.T) {
	const now = 1_800_000_000
	tests := []struct {
		m    machine
		want uint64
		text string // a part of the error
	}{
		{machine{}, 0, ""},
		{machine{hours: 1.5}, now + 5400, ""},
		{machine{maxUntil: "2027-01-15T08:00:01Z"}, now + 1, ""},
		{machine{maxUntil: "2027-01-15T08:00:00Z"}, 0, "has passed"},
		{machine{maxUntil: "tomorrow"}, 0, "2027-01-31T12:00:00Z"},
		{machine{hours: -1}, 0, "want 0 to"},
		{machine{hours: 1, maxUntil: "2027-01-15T08:00:01Z"}, 0, "not both"},
	}
	for _, tt := range tests {
		got, err := tt.m.until(now)
		if got != tt.want || (err == nil) != (tt.text == "") || (err != nil && !strings.Contains(err.Error(), tt.text)) {
			t.Errorf("%+v: %d, %v; want %d, %q", tt.m, got, err, tt.want, tt.text)
		}
	}
}

func TestReceiptsAreChecked(t *testing.T) {
	wei := func(s string) aleph.Wei {
		w, err := aleph.ParseTokens(s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	good := aleph.Receipt{Complete: true, QuotedWei: wei("3"), SettledWei: wei("3"), Split: aleph.Split{Node: wei("2"), Staker: wei("1")}}
	if err := checkReceipt(&good); err != nil {
		t.Errorf("good receipt: %v", err)
	}
	short := good
	short.SettledWei = wei("2")
	if err := checkReceipt(&short); err == nil || !strings.Contains(err.Error(), "the quote comes to") {
		t.Errorf("short receipt: %v, want an error", err)
	}
	leaking := good
	leaking.Split.Staker = aleph.Wei{}
	if err := checkReceipt(&leaking); err == nil || !strings.Contains(err.Error(), "add up to") {
		t.Errorf("leaking receipt: %v, want an error", err)
	}
	leaking.Complete = false
	if err := checkReceipt(&leaking); err != nil {
		t.Errorf("incomplete receipt: %v, want none yet", err)
	}
}

func TestHomeIsUnderTheUsersHome(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	got, err := newApp(nil, nil, nil, nil).homeDir()
	if err != nil || got != "/home/alice/.aleph" {
		t.Errorf("home %q, %v; want /home/alice/.aleph", got, err)
	}
}

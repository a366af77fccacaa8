package config_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// complete returns settings with which a node could start.
func complete(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Chain.RPCURL = "http://127.0.0.1:8545"
	for i, name := range chain.Names() {
		if err := cfg.Chain.Contracts.Set(name, common.BigToAddress(big.NewInt(int64(i+1)))); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// file writes text to a file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// check fails unless err is of the kind and says all of wants.
func check(t *testing.T, err error, kind errs.Kind, wants ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error %v, want one of kind %q", err, kind)
		return
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
}

// other returns a value of the setting's type that is not v, as a file and as
// the environment have it.
func other(t *testing.T, v reflect.Value) (want any, inFile, inEnv string) {
	t.Helper()
	switch x := v.Interface().(type) {
	case time.Duration:
		x += 1500 * time.Millisecond
		return x, strconv.Quote(x.String()), x.String()
	case string:
		return x + "-other", strconv.Quote(x + "-other"), x + "-other"
	case []string:
		return []string{"one", "two"}, `["one", "two"]`, " one, two,"
	case bool:
		return !x, strconv.FormatBool(!x), strconv.FormatBool(!x)
	case int:
		return x + 7, strconv.Itoa(x + 7), strconv.Itoa(x + 7)
	case int64:
		return x + 7, fmt.Sprint(x + 7), fmt.Sprint(x + 7)
	case uint64:
		return x + 7, fmt.Sprint(x + 7), fmt.Sprint(x + 7)
	case float64:
		return x + 0.5, fmt.Sprint(x + 0.5), fmt.Sprint(x + 0.5)
	case common.Address:
		a := common.HexToAddress("0x00000000000000000000000000000000000000aa")
		return a, strconv.Quote(a.Hex()), a.Hex()
	}
	if v.Kind() == reflect.String {
		w := reflect.New(v.Type()).Elem()
		w.SetString("other")
		return w.Interface(), `"other"`, "other"
	}
	t.Fatalf("no other value for a %s", v.Type())
	return nil, "", ""
}

// at returns the setting of cfg with the path.
func at(t *testing.T, cfg *config.Config, path string) any {
	t.Helper()
	for _, s := range config.Settings(cfg) {
		if s.Path == path {
			return s.Value.Interface()
		}
	}
	t.Fatalf("no setting %s", path)
	return nil
}

func TestEveryKeyIsSetByTheFileAndByTheEnvironmentOverIt(t *testing.T) {
	defaults := config.Default()
	for _, s := range config.Settings(&defaults) {
		t.Run(s.Path, func(t *testing.T) {
			want, inFile, inEnv := other(t, s.Value)
			cut := strings.LastIndex(s.Path, ".")
			section, key := s.Path[:cut], s.Path[cut+1:]
			set := file(t, fmt.Sprintf("[%s]\n%s = %s\n", section, key, inFile))
			unset := file(t, fmt.Sprintf("[%s]\n%s = %s\n", section, key, config.Text(s.Value)))
			name := "ALEPH_" + strings.ToUpper(strings.ReplaceAll(s.Path, ".", "_"))

			byFile, err := config.Load(set, nil)
			if err != nil {
				t.Fatal(err)
			}
			byEnv, err := config.Load(unset, []string{"PATH=/bin", name + "=" + inEnv})
			if err != nil {
				t.Fatal(err)
			}

			for what, cfg := range map[string]*config.Config{"the file": &byFile, "the environment": &byEnv} {
				if diff := cmp.Diff(want, at(t, cfg, s.Path)); diff != "" {
					t.Errorf("set by %s (-want +got):\n%s", what, diff)
				}
				for _, o := range config.Settings(cfg) {
					if o.Path != s.Path && !reflect.DeepEqual(o.Value.Interface(), at(t, &defaults, o.Path)) {
						t.Errorf("set by %s, %s changed too", what, o.Path)
					}
				}
			}
		})
	}
}

func TestWrongNamesNameTheRightOnes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"[netwrk]\n", "unknown section [netwrk]; did you mean [network]?"},
		{"[Node]\n", "unknown section [Node]; it is [node]"},
		{"[executors]\n", "unknown section [executors]; did you mean [executor]?"},
		{"[wallet]\n", "unknown section [wallet]; there are api, ccn, chain, corechannel, corenode, crn, domains, executor, files, firecracker, functions, guestapi, ingest, ipfs, log, network, node, outbox, qemu, scheduler, settlement, state, storage, sync, vmnet"},
		{"[contracts]\n", "unknown section [contracts]; it is [chain.contracts]"},
		{"[chain.contract]\n", "unknown key [chain] contract; did you mean [chain.contracts]?"},
		{"role = \"compute\"\n", "unknown section [role]; it is [node] role"},
		{"[node]\nroel = \"compute\"\n", "unknown key [node] roel; did you mean role?"},
		{"[node]\nROLE = \"compute\"\n", "unknown key [node] ROLE; it is [node] role"},
		{"[node]\ndata-dir = \"x\"\n", "unknown key [node] data-dir; did you mean data_dir?"},
		{"[chain]\nrpcurl = \"x\"\n", "unknown key [chain] rpcurl; did you mean rpc_url?"},
		{"[storage]\nmax_size = 1\n", "unknown key [storage] max_size; did you mean max_size_gb?"},
		{"[node]\nrpc_url = \"x\"\n", "unknown key [node] rpc_url; it is [chain] rpc_url"},
		{"[scheduler]\nad_interval = \"5s\"\n", "unknown key [scheduler] ad_interval; it is [executor] ad_interval"},
		{"[chain]\nJobManager = \"0x\"\n", "unknown key [chain] JobManager; it is [chain.contracts] JobManager"},
		{"[chain.contracts]\njobmanger = \"0x\"\n", "unknown key [chain.contracts] jobmanger; did you mean JobManager?"},
		{"[network]\nbind = \"x\"\n", "unknown key [network] bind; it is [api] bind or [vmnet] bind"},
		{"[node]\nlisten_adr = \"x\"\n", "unknown key [node] listen_adr; did you mean [ipfs] listen_addr or [network] listen_addr?"},
		{"[log]\ncolour = true\n", "unknown key [log] colour; there are format, level"},
		{"[outbox]\nConfirmations = 1\n", "unknown key [outbox] Confirmations; it is [chain] confirmations"},
		{"[vmnet]\nName = \"x\"\n", "unknown key [vmnet] Name; there are "},
		{"[node]\nid = 1\n", "unknown key [node] id; there are data_dir, driver, owner_url, public_ip, public_url, role"},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.text, "\n", " "), func(t *testing.T) {
			path := file(t, tt.text)

			_, err := config.Load(path, nil)

			check(t, err, errs.Invalid, path+": "+tt.want)
		})
	}
}

func TestWrongVariablesNameTheRightOnes(t *testing.T) {
	tests := []struct{ variable, want string }{
		{"ALEPH_NODE_ROEL=compute", "environment variable ALEPH_NODE_ROEL: unknown key [node] roel; did you mean role?"},
		{"ALEPH_NETWRK_LISTEN_ADDR=x", "environment variable ALEPH_NETWRK_LISTEN_ADDR: unknown section [netwrk]; did you mean [network]?"},
		{"ALEPH_CHAIN_CONTRACTS_JOBMANGER=x", "unknown key [chain] contracts_jobmanger"},
		{"ALEPH_CHAIN_CONTRACTS=x", "unknown key [chain] contracts"},
		{"ALEPH_EXECUTOR_VCPUS=", `environment variable ALEPH_EXECUTOR_VCPUS: [executor] vcpus is "", want a whole number`},
		{"ALEPH_EXECUTOR_INTERVAL=5", `[executor] interval is "5", want a time such as "1m30s"`},
		{"ALEPH_STORAGE_MAX_SIZE_GB=NaN", "[storage] max_size_gb is NaN, want a number"},
		{"ALEPH_INGEST_KEEP_FILES=maybe", `[ingest] keep_files is "maybe", want true or false`},
		{"ALEPH_CHAIN_CHAIN_ID=-1", `[chain] chain_id is "-1", want a whole number that is not negative`},
		{"ALEPH_CHAIN_CONTRACTS_JOBMANAGER=0x12", `[chain.contracts] JobManager is "0x12"`},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			_, err := config.Load("", []string{tt.variable})

			check(t, err, errs.Invalid, tt.want)
		})
	}
	for _, variable := range []string{
		"ALEPH_NODE=http://127.0.0.1:4024", "ALEPH_PASSWORD_FILE=x", "ALEPH_HOME=/", "ALEPH_BIN=/bin", "ALEPH_MY_LOG=x", "ALEPH_NODES_URL=x", "OTHER_NODE_ROEL=x", "ALEPH_",
	} {
		if _, err := config.Load("", []string{variable}); err != nil {
			t.Errorf("%s, which is no setting of a node: %v", variable, err)
		}
	}
}

func TestWrongValuesSayWhatIsWanted(t *testing.T) {
	tests := []struct{ text, want string }{
		{"[node]\nrole = 1\n", "[node] role is 1, want a text in quotes"},
		{"[node]\nrole = true\n", "[node] role is true, want a text in quotes"},
		{"[node]\nrole = [\"compute\"]\n", "[node] role is a list, want a text in quotes"},
		{"[node]\nrole = 2026-01-01T00:00:00Z\n", "[node] role is a time.Time, want a text in quotes"},
		{"[executor]\nvcpus = \"4\"\n", `[executor] vcpus is "4", want a whole number`},
		{"[executor]\nvcpus = 4.5\n", "[executor] vcpus is 4.5, want a whole number"},
		{"[executor]\ninterval = 5\n", `[executor] interval is 5, want a time such as "1m30s"`},
		{"[executor]\ninterval = \"5 seconds\"\n", `[executor] interval is "5 seconds", want a time such as "1m30s"`},
		{"[chain]\nchain_id = -1\n", `[chain] chain_id is "-1", want a whole number that is not negative`},
		{"[storage]\nmax_size_gb = nan\n", "[storage] max_size_gb is NaN, want a number"},
		{"[storage]\nmax_size_gb = -inf\n", "[storage] max_size_gb is -Inf, want a number"},
		{"[storage]\nmax_size_gb = \"big\"\n", `[storage] max_size_gb is "big", want a number`},
		{"[ingest]\nkeep_files = \"yes\"\n", `[ingest] keep_files is "yes", want true or false`},
		{"[ingest]\nkeep_files = 1.5\n", "[ingest] keep_files is 1.5, want true or false"},
		{"[network]\nbootstrap_peers = \"a\"\n", `[network] bootstrap_peers is "a", want a list of texts such as ["a", "b"]`},
		{"[network]\nbootstrap_peers = [1]\n", `[network] bootstrap_peers is a list with 1, want a list of texts such as ["a", "b"]`},
		{"[network]\nbootstrap_peers = {a = 1}\n", "[network] bootstrap_peers is a map"},
		{"[chain.contracts]\nJobManager = 1\n", "[chain.contracts] JobManager is 1, want a text in quotes"},
		{"[chain.contracts]\nJobManager = \"0xzz\"\n", `[chain.contracts] JobManager is "0xzz"`},
		{"[chain]\ncontracts = \"mainnet\"\n", "[chain] contracts is a section of its own, write [chain.contracts]"},
		{"api = \"127.0.0.1:4020\"\n", "[api] is a section of its own, write [api]"},
		{"[[node]]\nrole = \"compute\"\n", "[node] is a section of its own, write [node]"},
		{"[node]\nrole = \"compute\nx = 1\n", "line 2, column "},
		{"[node\n", "line 1, column "},
		{"[node]\nrole = \"compute\"\nrole = \"coordinator\"\n", "role"},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.text, "\n", " "), func(t *testing.T) {
			cfg := config.Default()

			err := config.Apply(&cfg, []byte(tt.text))

			check(t, err, errs.Invalid, tt.want)
		})
	}
}

func TestOfSeveralMistakesTheSameOneIsReported(t *testing.T) {
	text := []byte("[api]\nbnid = 1\nx = 1\n[chain]\nrpc = 1\n[zone]\n[node]\nroel = 1\n")
	for range 20 {
		cfg := config.Default()
		check(t, config.Apply(&cfg, text), errs.Invalid, "[api] bnid")
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	_, err := config.Load(missing, nil)
	check(t, err, errs.NotFound, "there is no configuration "+missing, "config.example.toml")

	huge := file(t, strings.Repeat("#", 1<<20)+"\n")
	_, err = config.Load(huge, nil)
	check(t, err, errs.Invalid, huge, "1048577 bytes, at most 1048576")

	if _, err := config.Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory: %v, want an error that says so", err)
	}
}

func TestCompleteSettingsAreValid(t *testing.T) {
	cfg := complete(t)
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.Node.Role = config.Compute
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.Node.PublicURL, cfg.Node.PublicIP, cfg.API.Bind, cfg.VMNet.Bind = "https://node.example:8443/x", "203.0.113.7", ":4020", "0.0.0.0"
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesSectionAndKey(t *testing.T) {
	tests := []struct {
		want   string
		change func(*config.Config)
	}{
		{`[node] role is "miner", want coordinator, compute or api`, func(c *config.Config) { c.Node.Role = "miner" }},
		{"[state] url is empty, and an API process has no database of its own", func(c *config.Config) { c.Node.Role = config.API }},
		{`[node] owner_url is "owner:4020", want http:// or https:// and a host`, func(c *config.Config) { c.Node.OwnerURL = "owner:4020" }},
		{`[node] role is "", want`, func(c *config.Config) { c.Node.Role = "" }},
		{`[node] role is "Compute", want`, func(c *config.Config) { c.Node.Role = "Compute" }},
		{"[node] data_dir is empty", func(c *config.Config) { c.Node.DataDir = "" }},
		{`[node] public_url is "example.org"`, func(c *config.Config) { c.Node.PublicURL = "example.org" }},
		{`[node] public_url is "ftp://example.org"`, func(c *config.Config) { c.Node.PublicURL = "ftp://example.org" }},
		{`[node] public_ip is "example.org"`, func(c *config.Config) { c.Node.PublicIP = "example.org" }},
		{`[node] public_ip is "0.0.0.0"`, func(c *config.Config) { c.Node.PublicIP = "0.0.0.0" }},
		{"[node] public_ip is empty, and ports are forwarded at 0.0.0.0", func(c *config.Config) { c.Node.Role, c.VMNet.Bind = config.Compute, "0.0.0.0" }},
		{"[node] public_url is empty, and the HTTP interface listens on 0.0.0.0:4020", func(c *config.Config) { c.API.Bind = "0.0.0.0:4020" }},
		{"[node] public_url is empty, and the HTTP interface listens on :4020", func(c *config.Config) { c.API.Bind = ":4020" }},
		{"[node] public_url is empty, and the HTTP interface listens on [::]:4020", func(c *config.Config) { c.API.Bind = "[::]:4020" }},
		{"[chain] rpc_url is empty", func(c *config.Config) { c.Chain.RPCURL = " , " }},
		{"[chain] chain_id is 0", func(c *config.Config) { c.Chain.ChainID = 0 }},
		{"[chain] poll_interval is 1ms", func(c *config.Config) { c.Chain.PollInterval = time.Millisecond }},
		{"[chain] contracts.JobManager is missing", func(c *config.Config) { c.Chain.Contracts.JobManager = common.Address{} }},
		{`[storage] engine is "postgres", want embedded`, func(c *config.Config) { c.Storage.Engine = "postgres" }},
		{"[ipfs] max_index_gb is 0", func(c *config.Config) { c.IPFS.MaxIndexGB = 0 }},
		{"[ipfs] gateways: want http://", func(c *config.Config) { c.IPFS.Gateways = []string{"ipfs.example"} }},
		{"[storage] max_size_gb is NaN", func(c *config.Config) { c.Storage.MaxSizeGB = math.NaN() }},
		{"[files] max_car_mib is -1", func(c *config.Config) { c.Files.MaxCARMiB = -1 }},
		{"[network] listen_addr", func(c *config.Config) { c.Network.ListenAddr = "127.0.0.1:4021" }},
		{"[network] bootstrap_peers", func(c *config.Config) { c.Network.BootstrapPeers = []string{"/ip4/127.0.0.1/tcp/1"} }},
		{"[ccn] version and topic", func(c *config.Config) { c.CCN.Topic = "" }},
		{`[api] bind is "4020"`, func(c *config.Config) { c.API.Bind = "4020" }},
		{"[log] level", func(c *config.Config) { c.Log.Level = "loud" }},
		{`[log] format is "xml"`, func(c *config.Config) { c.Log.Format = "xml" }},
		{"[ingest] grace_period", func(c *config.Config) { c.Ingest.GracePeriod = 0 }},
		{"[outbox] max_fee_gwei", func(c *config.Config) { c.Outbox.MaxFeeGwei = 0 }},
		{"[sync] rpc_url is empty, and publish is true", func(c *config.Config) { c.Sync.Publish = true }},
		{`[sync] rpc_url is "ftp://secret"`, func(c *config.Config) { c.Sync.RPCURL = "ftp://secret" }},
		{`[sync] chain is "MARS"`, func(c *config.Config) { c.Sync.RPCURL, c.Sync.Chain = "http://rpc", "MARS" }},
		{`[sync] address is "nowhere"`, func(c *config.Config) { c.Sync.RPCURL, c.Sync.Contract = "http://rpc", "nowhere" }},
		{`[sync] emitters has "nobody"`, func(c *config.Config) { c.Sync.RPCURL, c.Sync.Emitters = "http://rpc", []string{"nobody"} }},
		{"[sync] confirmations is 1000", func(c *config.Config) { c.Sync.RPCURL, c.Sync.Confirmations = "http://rpc", 1000 }},
		{"[sync] interval is 1ms", func(c *config.Config) { c.Sync.RPCURL, c.Sync.Interval = "http://rpc", time.Millisecond }},
		{"[sync] commit_delay is 1ms", func(c *config.Config) { c.Sync.RPCURL, c.Sync.CommitDelay = "http://rpc", time.Millisecond }},
		{"[sync] max_fee_gwei is 0", func(c *config.Config) { c.Sync.RPCURL, c.Sync.MaxFeeGwei = "http://rpc", 0 }},
		{"[sync] private_key_path is empty", func(c *config.Config) { c.Sync.RPCURL, c.Sync.Publish = "http://rpc", true }},
		{"[scheduler] ask_parallel", func(c *config.Config) { c.Scheduler.AskParallel = 0 }},
		{`[executor] on_exit is "leave"`, func(c *config.Config) { c.Executor.OnExit = "leave" }},
		{"[settlement] interval is 1ms", func(c *config.Config) { c.Settlement.Interval = time.Millisecond }},
		{"[vmnet] mode", func(c *config.Config) { c.VMNet.Mode = "bridge" }},
		{"[qemu] probe_image", func(c *config.Config) { c.QEMU.ProbeImage = "/does/not/exist" }},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			cfg := complete(t)
			tt.change(&cfg)

			check(t, cfg.Validate(), errs.Invalid, tt.want)
		})
	}
}

func TestDirIsBelowTheDataDirectory(t *testing.T) {
	cfg := config.Default()
	cfg.Node.DataDir = "relative/dir"
	if got, want := cfg.Dir("vms", "1"), filepath.Join("relative", "dir", "vms", "1"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := cfg.Dir(); got != filepath.Join("relative", "dir") {
		t.Errorf("got %s, want the directory itself", got)
	}
}

func TestWhatIsWrittenReadsTheSame(t *testing.T) {
	comments := map[string]string{"node": "Two lines\nof words.", "chain.contracts.JobManager": "One."}
	rapid.Check(t, func(rt *rapid.T) {
		want := config.Default()
		for _, s := range config.Settings(&want) {
			if !rapid.Bool().Draw(rt, s.Path) {
				continue
			}
			draw(rt, s.Value)
		}

		raw := config.Write(want, comments)

		got := config.Default()
		if err := config.Apply(&got, raw); err != nil {
			rt.Fatalf("%v in\n%s", err, raw)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
		if !strings.Contains(string(raw), "# Two lines\n# of words.\n[node]\n") || !strings.Contains(string(raw), "# One.\nJobManager = ") {
			rt.Fatalf("comments are missing in\n%s", raw)
		}
	})
}

// draw sets v to any value of its type.
func draw(rt *rapid.T, v reflect.Value) {
	text := rapid.String()
	switch v.Interface().(type) {
	case []string:
		list := rapid.SliceOf(text).Draw(rt, "list")
		if len(list) == 0 {
			list = nil
		}
		v.Set(reflect.ValueOf(list))
		return
	case common.Address:
		v.Set(reflect.ValueOf(common.BytesToAddress(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(rt, "address"))))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text.Draw(rt, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(rt, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(rt, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64Max(math.MaxInt64).Draw(rt, "uint")) // TOML has no larger ones.
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(rt, "float"))
	default:
		rt.Fatalf("no values for a %s", v.Type())
	}
}

func TestTimesAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: `"24h"`, 90 * time.Minute: `"1h30m"`, 3 * time.Minute: `"3m"`, 90 * time.Second: `"1m30s"`, 10 * time.Second: `"10s"`,
		0: `"0s"`, time.Hour + time.Second: `"1h0m1s"`, -time.Minute: `"-1m"`,
	} {
		if got := config.Text(reflect.ValueOf(d)); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}

func TestMaskedHidesKeysInURLs(t *testing.T) {
	tests := []struct{ url, want string }{
		{"", ""},
		{"http://127.0.0.1:8545", "http://127.0.0.1:8545"},
		{"http://127.0.0.1:8545/", "http://127.0.0.1:8545/"},
		{"https://rpc.example/v2/SECRET", "https://rpc.example/***"},
		{"https://rpc.example?key=SECRET", "https://rpc.example/***"},
		{"https://rpc.example/#SECRET", "https://rpc.example/***"},
		{"wss://user:SECRET@rpc.example", "wss://rpc.example/***"},
		{"user:SECRET@rpc.example", "***"},
		{"SECRET@rpc.example", "***"},
		{"https://%zz:SECRET@rpc.example", "***"},
		{"https://a.example/SECRET, https://b.example", "https://a.example/***,https://b.example"},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			cfg := config.Default()
			cfg.Chain.RPCURL, cfg.Sync.RPCURL = tt.url, tt.url

			masked := cfg.Masked()

			if masked.Chain.RPCURL != tt.want || masked.Sync.RPCURL != tt.want {
				t.Errorf("got %q and %q, want %q", masked.Chain.RPCURL, masked.Sync.RPCURL, tt.want)
			}
			if cfg.Chain.RPCURL != tt.url || cfg.Sync.RPCURL != tt.url {
				t.Errorf("the settings themselves changed to %q", cfg.Chain.RPCURL)
			}
		})
	}
}

func TestMaskedHidesThePasswordOfTheDatabase(t *testing.T) {
	cfg := complete(t)
	cfg.State.URL = "postgres://aleph:SECRET@db.example/aleph"
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if got, want := cfg.Masked().State.URL, "postgres://aleph:***@db.example/aleph"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	cfg.State.URL = "mysql://aleph:SECRET@db.example/aleph"
	err := cfg.Validate()
	check(t, err, errs.Invalid, `[state] url is of scheme "mysql"`)
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the password is in %v", err)
	}
}

func TestMaskedHidesKeysOfGatewaysAndKubo(t *testing.T) {
	cfg := complete(t)
	cfg.IPFS.Gateways, cfg.IPFS.KuboRPC = []string{"https://gate.example", "https://gate.example/SECRET"}, "http://user:SECRET@127.0.0.1:5001"
	masked := cfg.Masked().IPFS
	if want := []string{"https://gate.example", "https://gate.example/***"}; !slices.Equal(masked.Gateways, want) || masked.KuboRPC != "http://127.0.0.1:5001/***" {
		t.Errorf("got %q and %q", masked.Gateways, masked.KuboRPC)
	}
	if cfg.IPFS.Gateways[1] != "https://gate.example/SECRET" {
		t.Error("the settings themselves changed")
	}
}

func FuzzApply(f *testing.F) {
	f.Add(config.Write(config.Default(), nil))
	for _, text := range []string{
		"", "[node]\nrole = \"compute\"\n", "[chain.contracts]\nJobManager = \"0x00000000000000000000000000000000000000aa\"\n",
		"[network]\nbootstrap_peers = [\"a\", 1]\n", "[[node]]\n", "node = 1\n", "[storage]\nmax_size_gb = 1e400\n", "a.b.c = 1979-05-27\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		cfg := config.Default()
		if err := config.Apply(&cfg, raw); err != nil {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%v is %q, want %q", err, errs.KindOf(err), errs.Invalid)
			}
			return
		}
		again := config.Default()
		if err := config.Apply(&again, config.Write(cfg, nil)); err != nil {
			t.Fatalf("what was written does not read: %v", err)
		}
		if diff := cmp.Diff(cfg, again); diff != "" {
			t.Errorf("what was written reads otherwise (-want +got):\n%s", diff)
		}
	})
}
